/* The three inner loops of the alignment, over arrays that Python has checked and allocated.
 *
 * Each has a twin in NumPy (matching.py, groups.py), which runs where this file could not be compiled
 * and which the tests compare with it. Arrays come as contiguous buffers: i8 = int64, i4 = int32.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "match() reads little-endian words; NumPy's twin serves here"
#endif

static uint64_t read_eight(const uint8_t *place)
{
    uint64_t word;
    memcpy(&word, place, 8);
    return word;
}

/* Whether `size` bytes are the same; both sides can be read eight bytes at a time. */
static int same_bytes(const uint8_t *left, const uint8_t *right, int64_t size)
{
    while (size > 8) {
        if (read_eight(left) != read_eight(right))
            return 0;
        left += 8;
        right += 8;
        size -= 8;
    }
    return memcmp(left, right, (size_t)size) == 0;
}

/* match(lengths i4[V], offsets i8[V+1], blob[B+8], ids i8[N], counts i8[T], buffer, begins i8[T],
 *       sizes i8[T], starts i8[N] out, ends i8[N] out, matches u1[T] out) */
static PyObject *match(PyObject *self, PyObject *args)
{
    Py_buffer lengths, offsets, blob, ids, counts, buffer, begins, sizes, starts, ends, matches;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*y*y*w*w*w*", &lengths, &offsets, &blob, &ids, &counts,
                          &buffer, &begins, &sizes, &starts, &ends, &matches))
        return NULL;
    const int32_t *length = lengths.buf;
    const int64_t *offset = offsets.buf, *id = ids.buf, *count = counts.buf, *begin = begins.buf,
                  *size = sizes.buf;
    const uint8_t *spelled = blob.buf, *text = buffer.buf;
    int64_t *start = starts.buf, *end = ends.buf;
    uint8_t *good = matches.buf;
    const int64_t texts = counts.len / 8, limit = buffer.len - 8;
    Py_BEGIN_ALLOW_THREADS
    int64_t token = 0;
    for (int64_t t = 0; t < texts; t++) {
        int64_t place = begin[t];
        int equal = 1;
        for (const int64_t stop = token + count[t]; token < stop; token++) {
            const int64_t bytes = length[id[token]];
            start[token] = place;
            end[token] = place + bytes;
            if (equal) {
                const uint8_t *own = spelled + offset[id[token]];
                if (place < 0 || place + bytes > limit)
                    equal = 0;
                else if (bytes <= 8) {
                    const uint64_t differ = read_eight(own) ^ read_eight(text + place);
                    equal = bytes == 0 || (differ << (64 - 8 * bytes)) == 0;
                } else
                    equal = same_bytes(own, text + place, bytes);
            }
            place += bytes;
        }
        good[t] = (uint8_t)(equal && place - begin[t] == size[t]);
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&lengths), PyBuffer_Release(&offsets), PyBuffer_Release(&blob);
    PyBuffer_Release(&ids), PyBuffer_Release(&counts), PyBuffer_Release(&buffer);
    PyBuffer_Release(&begins), PyBuffer_Release(&sizes), PyBuffer_Release(&starts);
    PyBuffer_Release(&ends), PyBuffer_Release(&matches);
    Py_RETURN_NONE;
}

/* bridges(word_starts i8[W], word_ends i8[W], starts i8[N], ends i8[N], found i8[3*K] out) -> number of bridges
 * Spans that overlap more than one word, as rows (span, first word, last word); starts and ends never
 * decrease. Rows beyond K are counted, not written. */
static PyObject *bridges(PyObject *self, PyObject *args)
{
    Py_buffer word_starts, word_ends, starts, ends, found;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*", &word_starts, &word_ends, &starts, &ends, &found))
        return NULL;
    const int64_t *word_start = word_starts.buf, *word_end = word_ends.buf, *start = starts.buf,
                  *end = ends.buf;
    int64_t *row = found.buf;
    const int64_t words = word_starts.len / 8, spans = starts.len / 8, room = found.len / 24;
    int64_t count = 0;
    Py_BEGIN_ALLOW_THREADS
    int64_t word = 0;
    for (int64_t span = 0; span < spans; span++) {
        while (word < words && word_end[word] <= start[span])
            word++;
        if (word + 1 >= words || word_start[word + 1] >= end[span])
            continue;
        if (count < room) {
            int64_t last = word + 1;
            while (last + 1 < words && word_start[last + 1] < end[span])
                last++;
            row[3 * count] = span;
            row[3 * count + 1] = word;
            row[3 * count + 2] = last;
        }
        count++;
    }
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&word_starts), PyBuffer_Release(&word_ends), PyBuffer_Release(&starts);
    PyBuffer_Release(&ends), PyBuffer_Release(&found);
    return PyLong_FromLongLong(count);
}

/* collect(word_starts i8[W], word_ends i8[W], starts i8[N], ends i8[N], group_of i8[W],
 *         indptr i8[G+1] out zeroed, tokens i8[N] out) -> entries
 * The spans of every group: each belongs to the group of the first word that it overlaps; empty ones to none. */
static PyObject *collect(PyObject *self, PyObject *args)
{
    Py_buffer word_starts, word_ends, starts, ends, groups, indptr, members;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*w*w*", &word_starts, &word_ends, &starts, &ends, &groups, &indptr,
                          &members))
        return NULL;
    const int64_t *word_start = word_starts.buf, *word_end = word_ends.buf, *start = starts.buf,
                  *end = ends.buf, *group_of = groups.buf;
    int64_t *bound = indptr.buf, *member = members.buf;
    const int64_t words = word_starts.len / 8, spans = starts.len / 8, count = indptr.len / 8 - 1;
    int64_t entries = 0;
    Py_BEGIN_ALLOW_THREADS
    int64_t word = 0;
    for (int64_t span = 0; span < spans; span++) {
        while (word < words && word_end[word] <= start[span])
            word++;
        if (word == words)
            break;
        if (word_start[word] >= end[span] || start[span] == end[span] || group_of[word] < 0)
            continue;
        member[entries++] = span;
        bound[group_of[word] + 1]++;
    }
    for (int64_t group = 0; group < count; group++)
        bound[group + 1] += bound[group];
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&word_starts), PyBuffer_Release(&word_ends), PyBuffer_Release(&starts);
    PyBuffer_Release(&ends), PyBuffer_Release(&groups), PyBuffer_Release(&indptr);
    PyBuffer_Release(&members);
    return PyLong_FromLongLong(entries);
}

static PyMethodDef methods[] = {
    {"match", match, METH_VARARGS, "Lay tokens over bytes and compare."},
    {"bridges", bridges, METH_VARARGS, "Spans that overlap more than one word."},
    {"collect", collect, METH_VARARGS, "The tokens of every group."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernels", NULL, -1, methods};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&module); }
