/* Whose code is at an address: the interpreter's, or that of a foreign object.
 *
 * *Core* text is that of the executable (or libpython) and of the extension modules that
 * were linked with it.  They are known by their ELF build id: one build gives the same id to
 * all of them (Makefile.vthread), so neither a path nor a name decides, and a copy of a
 * module from another build is foreign.
 *
 * The loaded objects stand in an immutable, sorted list, which is replaced as a whole when
 * something was loaded.  Objects are looked for when an unknown address turns up, not when
 * one is loaded: a thread that is about to be pinned can afford the question.
 */

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE 1
#endif
#include <elf.h>
#include <link.h>                   // dl_iterate_phdr()
#include "Python.h"
#include "pycore_lock.h"            // _PyRawMutex
#include "pycore_vthread_text.h"

#define MAX_BUILD_ID 64

struct text {
    uintptr_t start, end;
    struct _PyVThread_Object *object;
};

// Old lists stay: there are few, and a reader may still be in one.
struct text_list {
    unsigned long long adds;        // how many objects had ever been loaded
    int count;
    struct text range[];
};

struct _PyVThread_Text _PyVThread_core_text;

static struct {
    unsigned char build_id[MAX_BUILD_ID];   // both set once, before the first walk
    size_t build_id_len;
    struct text_list *list;         // atomic; replaced under mutex
    _PyRawMutex mutex;              // leaf: nothing is locked below it
} objects;

// What is in no object: generated code.
static struct _PyVThread_Object nowhere = {.name = "generated code"};

// --- What the loader says -------------------------------------------------------------------

static size_t
read_build_id(const struct dl_phdr_info *info, const unsigned char **id)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_NOTE) {
            continue;
        }
        const char *p = (const char *)(info->dlpi_addr + ph->p_vaddr);
        const char *end = p + ph->p_memsz;
        size_t align = ph->p_align < 4 ? 4 : ph->p_align;
        while (p + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)p;
            const char *name = p + sizeof(*note);
            const char *desc = name + _Py_SIZE_ROUND_UP(note->n_namesz, align);
            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4
                && memcmp(name, "GNU", 4) == 0)
            {
                *id = (const unsigned char *)desc;
                return note->n_descsz;
            }
            p = desc + _Py_SIZE_ROUND_UP(note->n_descsz, align);
        }
    }
    return 0;
}

static bool
has_our_build_id(const struct dl_phdr_info *info)
{
    const unsigned char *id = NULL;
    size_t len = read_build_id(info, &id);
    return len != 0 && len == objects.build_id_len
           && memcmp(id, objects.build_id, len) == 0;
}

// The addresses of the segments that have one of `flags`.
static void
read_span(const struct dl_phdr_info *info, ElfW(Word) flags, uintptr_t *start,
          uintptr_t *end)
{
    *start = UINTPTR_MAX;
    *end = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type == PT_LOAD && (ph->p_flags & flags)) {
            uintptr_t at = info->dlpi_addr + ph->p_vaddr;
            *start = Py_MIN(*start, at);
            *end = Py_MAX(*end, at + ph->p_memsz);
        }
    }
}

static struct _PyVThread_Object *
new_object(const struct dl_phdr_info *info)
{
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash != NULL ? slash + 1 : info->dlpi_name;
    size_t size = strlen(name) + 1;
    struct _PyVThread_Object *o = calloc(1, sizeof(*o) + size);
    if (o == NULL) {
        return NULL;
    }
    o->name = memcpy(o + 1, name, size);
    o->is_core = has_our_build_id(info);
    read_span(info, PF_R | PF_W | PF_X, &o->start, &o->end);
    return o;
}

struct listing {
    struct text_list *list;
    int capacity;
    bool failed;
};

static int
visit_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct listing *l = arg;
    l->list->adds = info->dlpi_adds;
    struct text t;
    read_span(info, PF_X, &t.start, &t.end);
    if (t.start >= t.end || t.start == _PyVThread_core_text.start) {
        return 0;
    }
    if (l->list->count == l->capacity) {
        int capacity = l->capacity * 2;
        struct text_list *bigger = realloc(
            l->list, sizeof(*bigger) + capacity * sizeof(struct text));
        if (bigger == NULL) {
            l->failed = true;
            return 1;
        }
        l->list = bigger;
        l->capacity = capacity;
    }
    t.object = new_object(info);
    if (t.object == NULL) {
        l->failed = true;
        return 1;
    }
    int i = l->list->count++;
    for (; i > 0 && l->list->range[i - 1].start > t.start; i--) {
        l->list->range[i] = l->list->range[i - 1];
    }
    l->list->range[i] = t;
    return 0;
}

static void
free_list(struct text_list *list)
{
    for (int i = 0; i < list->count; i++) {
        free(list->range[i].object);
    }
    free(list);
}

// What has been declared and counted of an object stays with it.
static void
keep_objects(struct text_list *list, const struct text_list *old)
{
    for (int i = 0, k = 0; i < list->count; i++) {
        struct _PyVThread_Object **o = &list->range[i].object;
        while (k < old->count && old->range[k].start < list->range[i].start) {
            k++;
        }
        if (k < old->count && old->range[k].start == list->range[i].start
            && strcmp(old->range[k].object->name, (*o)->name) == 0)
        {
            free(*o);
            *o = old->range[k].object;
        }
    }
}

// The mutex is not held around the loader's own lock, which whoever loads an object holds
// around its constructors.
static void
refresh(void)
{
    struct listing l = {.capacity = 64};
    l.list = malloc(sizeof(*l.list) + l.capacity * sizeof(struct text));
    if (l.list == NULL) {
        return;
    }
    l.list->count = 0;
    dl_iterate_phdr(visit_object, &l);
    if (l.failed) {
        free_list(l.list);      // what is not listed is foreign, which is never wrong
        return;
    }
    _PyRawMutex_Lock(&objects.mutex);
    struct text_list *old = objects.list;
    if (old == NULL || old->adds < l.list->adds) {
        if (old != NULL) {
            keep_objects(l.list, old);
        }
        _Py_atomic_store_ptr_release(&objects.list, l.list);
        l.list = NULL;
    }
    _PyRawMutex_Unlock(&objects.mutex);
    if (l.list != NULL) {
        free_list(l.list);
    }
}

static int
read_adds(struct dl_phdr_info *info, size_t size, void *arg)
{
    *(unsigned long long *)arg = info->dlpi_adds;
    return 1;
}

static bool
is_up_to_date(void)
{
    unsigned long long adds = 0;
    dl_iterate_phdr(read_adds, &adds);
    struct text_list *list = _Py_atomic_load_ptr_acquire(&objects.list);
    return list != NULL && list->adds == adds;
}

// The interpreter's own object.
static int
visit_self(struct dl_phdr_info *info, size_t size, void *arg)
{
    uintptr_t start, end, here = (uintptr_t)&_PyVThread_TextInit;
    read_span(info, PF_X, &start, &end);
    if (here < start || here >= end) {
        return 0;
    }
    const unsigned char *id = NULL;
    size_t len = read_build_id(info, &id);
    _PyVThread_core_text = (struct _PyVThread_Text){start, end - start};
    objects.build_id_len = Py_MIN(len, (size_t)MAX_BUILD_ID);
    if (id != NULL) {
        memcpy(objects.build_id, id, objects.build_id_len);
    }
    return 1;
}

void
_PyVThread_TextInit(void)
{
    if (_PyVThread_core_text.size == 0) {
        dl_iterate_phdr(visit_self, NULL);
    }
    refresh();
}

// --- Questions ------------------------------------------------------------------------------

static struct _PyVThread_Object *
look_up(uintptr_t address)
{
    struct text_list *list = _Py_atomic_load_ptr_acquire(&objects.list);
    int low = 0, high = list != NULL ? list->count : 0;
    while (low < high) {
        int mid = (low + high) / 2;
        if (address < list->range[mid].start) {
            high = mid;
        }
        else if (address >= list->range[mid].end) {
            low = mid + 1;
        }
        else {
            return list->range[mid].object;
        }
    }
    return NULL;
}

struct _PyVThread_Object *
_PyVThread_ObjectOfText(uintptr_t address)
{
    struct _PyVThread_Object *o = look_up(address);
    if (o == NULL) {
        if (!is_up_to_date()) {
            refresh();
        }
        o = look_up(address);       // also where another thread has just refreshed
    }
    return o != NULL ? o : &nowhere;
}

struct _PyVThread_Object *
_PyVThread_ObjectOfData(const void *data)
{
    if (!is_up_to_date()) {
        _PyVThread_TextInit();
    }
    struct text_list *list = _Py_atomic_load_ptr_acquire(&objects.list);
    for (int i = 0; list != NULL && i < list->count; i++) {
        struct _PyVThread_Object *o = list->range[i].object;
        if ((uintptr_t)data >= o->start && (uintptr_t)data < o->end) {
            return o;
        }
    }
    return NULL;
}

int
_PyVThread_ForEachObject(int (*fn)(struct _PyVThread_Object *, void *), void *arg)
{
    int res = fn(&nowhere, arg);
    struct text_list *list = _Py_atomic_load_ptr_acquire(&objects.list);
    for (int i = 0; res == 0 && list != NULL && i < list->count; i++) {
        res = fn(list->range[i].object, arg);
    }
    return res;
}
