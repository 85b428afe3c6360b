#include "base/list.h"

#include "check.h"

struct item {
    int value;
    struct cont__list node;
};

static int
value_of(struct cont__list *n)
{
    return CONT__CONTAINER(n, struct item, node)->value;
}

int
main(int argc, char **argv)
{
    (void)argc;
    struct cont__list head = CONT__LIST_INIT(head);
    struct item items[100];
    CHECK(cont__list_is_empty(&head));
    CHECK(cont__list_first(&head) == NULL);
    for (int i = 0; i < 100; i++) {
        items[i].value = i;
        cont__list_init(&items[i].node);
        cont__list_remove(&items[i].node);          /* idempotent */
    }

    cont__list_push_back(&head, &items[1].node);
    cont__list_push_back(&head, &items[2].node);
    cont__list_push_front(&head, &items[0].node);
    CHECK(cont__list_is_valid(&head));
    CHECK_EQ(value_of(head.next), 0);
    CHECK_EQ(value_of(head.next->next), 1);
    CHECK_EQ(value_of(head.prev), 2);
    cont__list_remove(&items[1].node);
    CHECK(cont__list_is_empty(&items[1].node));
    CHECK_EQ(value_of(head.next->next), 2);
    cont__list_remove(&items[0].node);
    cont__list_remove(&items[2].node);
    CHECK(cont__list_is_empty(&head));

    /* Beside a model. */
    uint64_t random = check_take_seed(argv);
    int model[100], n = 0;
    for (int round = 0; round < 10000; round++) {
        struct item *it = &items[check_random(&random) % 100];
        if (!cont__list_is_empty(&it->node)) {
            cont__list_remove(&it->node);
            int k = 0;
            while (model[k] != it->value) {
                k++;
            }
            memmove(model + k, model + k + 1, (size_t)(--n - k) * sizeof(int));
        }
        else if (check_random(&random) & 1) {
            cont__list_push_back(&head, &it->node);
            model[n++] = it->value;
        }
        else {
            cont__list_push_front(&head, &it->node);
            memmove(model + 1, model, (size_t)n++ * sizeof(int));
            model[0] = it->value;
        }
        struct cont__list *at = &head;
        for (int k = 0; k < n; k++) {
            at = at->next;
            CHECK_EQ(value_of(at), model[k]);
        }
        CHECK(at->next == &head);
    }
    CHECK(cont__list_is_valid(&head));
    struct cont__list *broken = head.next;
    broken->prev = broken;
    CHECK(!cont__list_is_valid(&head));
    return 0;
}
