/* The inner loops of pairing, over arrays that Python has checked and allocated.
 *
 * Each has a twin in NumPy and SciPy (chunks.py, sweeping.py, correlation.py, assignment.py), which runs where this file
 * could not be compiled and which the tests compare with it. Every sum of products runs over words in
 * ascending order in float64; a product of two float32 is exact there, so the sums are the same bits on
 * every path. Arrays come as contiguous buffers: i8 = int64, i4 = int32, f4 = float32, f8 = float64.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define PREFETCH(place) __builtin_prefetch(place)
#else
#define PREFETCH(place) ((void)0)
#endif

#define MOST_ARRAYS 20
/* How far the quick estimate of r may lie below the exact value: both err by less than 1e-14. */
#define SLACK 1e-12

typedef struct {
    Py_buffer view[MOST_ARRAYS];
    int64_t length[MOST_ARRAYS];
    int open;
} Arrays;

static void close_arrays(Arrays *arrays)
{
    while (arrays->open)
        PyBuffer_Release(&arrays->view[--arrays->open]);
}

/* Take the arguments from `first` on as arrays: one letter each, i l f d, in upper case where written to. */
static int open_arrays(PyObject *args, Py_ssize_t first, const char *kinds, Arrays *arrays)
{
    arrays->open = 0;
    if (PyTuple_Size(args) != first + (Py_ssize_t)strlen(kinds)) {
        PyErr_Format(PyExc_TypeError, "expected %zd arguments", first + (Py_ssize_t)strlen(kinds));
        return 0;
    }
    for (const char *kind = kinds; *kind; kind++) {
        const int written = *kind < 'a';
        const char letter = (char)(written ? *kind + 32 : *kind);
        Py_buffer *view = &arrays->view[arrays->open];
        const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(PyTuple_GetItem(args, first + arrays->open), view, flags))
            return close_arrays(arrays), 0;
        arrays->open++;
        const Py_ssize_t size = letter == 'l' || letter == 'd' ? 8 : 4;
        const int real = letter == 'f' || letter == 'd';
        const char *format = view->format ? view->format : "B";
        if (view->itemsize != size || !strchr(real ? "fd" : "ilq", format[0]) || !format[0] || format[1]) {
            PyErr_Format(PyExc_TypeError, "array %d is of another type than %c", arrays->open - 1, *kind);
            return close_arrays(arrays), 0;
        }
        arrays->length[arrays->open - 1] = view->len / size;
    }
    return 1;
}

/* One leading argument; sets an error where it is missing or no int. */
static int64_t read_whole(PyObject *args, Py_ssize_t place)
{
    PyObject *item = PyErr_Occurred() ? NULL : PyTuple_GetItem(args, place);
    return item ? PyLong_AsLongLong(item) : -1;
}

static PyObject *refuse(Arrays *arrays, const char *reason)
{
    PyErr_SetString(PyExc_ValueError, reason);
    close_arrays(arrays);
    return NULL;
}

/* transpose(first word, indptr i8[W+1], indices i4[E], values f4[E], slots i4[F], cursors i8[S] in and out,
 *           words i4 out, values f4 out) -> whether everything fitted
 * Scatter a chunk's entries into columns: feature f goes to slot slots[f] (none where negative), each slot is
 * written from its cursor on, up to the next slot's first cursor or the end. */
static PyObject *transpose(PyObject *self, PyObject *args)
{
    Arrays arrays;
    const int64_t first = read_whole(args, 0);
    if (PyErr_Occurred() || !open_arrays(args, 1, "lifiLIF", &arrays))
        return NULL;
    const int64_t *indptr = arrays.view[0].buf;
    const int32_t *index = arrays.view[1].buf, *slots = arrays.view[3].buf;
    const float *value = arrays.view[2].buf;
    int64_t *cursor = arrays.view[4].buf;
    int32_t *word_out = arrays.view[5].buf;
    float *value_out = arrays.view[6].buf;
    const int64_t words = arrays.length[0] - 1, room = arrays.length[5], features = arrays.length[3];
    if (words < 0 || arrays.length[1] != arrays.length[2] || indptr[words] != arrays.length[1] ||
        arrays.length[5] != arrays.length[6])
        return refuse(&arrays, "transpose: lengths do not fit");
    int fits = 1;
    Py_BEGIN_ALLOW_THREADS
    for (int64_t w = 0; w < words && fits; w++)
        for (int64_t e = indptr[w]; e < indptr[w + 1]; e++) {
            const int32_t f = index[e];
            if (f < 0 || f >= features) {
                fits = 0;
                break;
            }
            const int32_t slot = slots[f];
            if (slot < 0)
                continue;
            const int64_t place = cursor[slot]++;
            if (place >= room) {
                fits = 0;
                break;
            }
            word_out[place] = (int32_t)(first + w);
            value_out[place] = value[e];
        }
    Py_END_ALLOW_THREADS
    close_arrays(&arrays);
    return PyBool_FromLong(fits);
}

/* Whether (score, who) comes before (other, whom): higher score first, then lower number. */
static inline int precedes(double score, int32_t who, double other, int32_t whom)
{
    return score > other || (score == other && who < whom);
}

/* Put (score, who) into a list of k, best first, where it comes before the last. */
static inline void insert(double *scores, int32_t *names, int64_t k, double score, int32_t who)
{
    int64_t place = k - 1;
    for (; place > 0 && precedes(score, who, scores[place - 1], names[place - 1]); place--) {
        scores[place] = scores[place - 1];
        names[place] = names[place - 1];
    }
    scores[place] = score;
    names[place] = who;
}

/* What is known of one of B's features. */
typedef struct {
    double sum, inverse, variance;
    /* While lists of columns are kept, the last r on the column's list; else the r that must be beaten. */
    double low;
} Column;

typedef struct {
    double words, sum, variance, inverse, bound;
    int32_t name;
    double *scores;
    int32_t *names;
    int64_t k;
} Row;

typedef struct {
    Column *columns;
    const double *penalty;
    const int32_t *limit_names;
    double *scores;
    int32_t *names;
    int64_t k;
} Side;

static inline double correlate(double covariance, double left, double right)
{
    const double r = covariance / sqrt(left * right);
    return r > 1 ? 1 : r < -1 ? -1 : r;
}

/* Offer one pair to the lists of both its features. */
static inline void offer_both(const Row *row, const Side *side, int32_t b, double sum, double *low)
{
    Column *column = &side->columns[b];
    const double covariance = row->words * sum - row->sum * column->sum;
    const double quick = covariance * row->inverse * column->inverse;
    if (quick <= *low - SLACK && quick <= column->low - SLACK)
        return;
    if (column->inverse == 0)
        return;
    const double r = correlate(covariance, row->variance, column->variance);
    if (!(r > row->bound))
        return;
    const int64_t last = row->k - 1, end = side->k - 1;
    if (precedes(r, b, row->scores[last], row->names[last])) {
        insert(row->scores, row->names, row->k, r, b);
        if (row->scores[last] > *low)
            *low = row->scores[last];
    }
    double *scores = side->scores + b * side->k;
    int32_t *names = side->names + b * side->k;
    if (precedes(r, row->name, scores[end], names[end])) {
        insert(scores, names, side->k, r, row->name);
        if (scores[end] > column->low)
            column->low = scores[end];
    }
}

/* Offer one pair to its row's list alone, if it beats the column's limit; the score is r less the penalty. */
static inline void offer_row(const Row *row, const Side *side, int32_t b, double sum, double *low)
{
    const Column *column = &side->columns[b];
    const double covariance = row->words * sum - row->sum * column->sum;
    const double quick = covariance * row->inverse * column->inverse;
    if (quick - side->penalty[b] <= *low - SLACK || quick <= column->low - SLACK || column->inverse == 0)
        return;
    const double r = correlate(covariance, row->variance, column->variance);
    const double score = r - side->penalty[b];
    const int64_t last = row->k - 1;
    if (!(score > row->bound) || !precedes(r, row->name, column->low, side->limit_names[b]))
        return;
    if (precedes(score, b, row->scores[last], row->names[last])) {
        insert(row->scores, row->names, row->k, score, b);
        if (row->scores[last] > *low)
            *low = row->scores[last];
    }
}

/* Add one feature's products to the accumulators; list what was 0 before, as long as there is room.
 * Returns how many are listed, or -1: then look through all accumulators. */
static int64_t gather(int64_t from, int64_t to, const int32_t *words, const float *values,
                      const int64_t *indptr, const int32_t *index, const float *value, double *sums,
                      int32_t *touched, int64_t room)
{
    int64_t count = 0;
    for (int64_t e = from; e < to; e++) {
        const double x = values[e];
        const int64_t begin = indptr[words[e]], end = indptr[words[e] + 1];
        if (e + 2 < to) {
            const int64_t next = indptr[words[e + 2]];
            for (int64_t ahead = 0; ahead < 64; ahead += 16) {
                PREFETCH(index + next + ahead);
                PREFETCH(value + next + ahead);
            }
        }
        if (count >= 0 && count + (end - begin) > room)
            count = -1;
        if (count >= 0)
            for (int64_t j = begin; j < end; j++) {
                const int32_t b = index[j];
                const double before = sums[b];
                touched[count] = b;
                count += before == 0;
                sums[b] = before + x * value[j];
            }
        else
            for (int64_t j = begin; j < end; j++)
                sums[index[j]] += x * value[j];
    }
    return count;
}

/* sweep(words, filled, k of columns,
 *       indptr_a i8[F_A+1], words_a i4, values_a f4: A's columns,
 *       indptr_b i8[W+1], indices_b i4, values_b f4: B's rows,
 *       rows i4[R], sums_a f8[F_A], variances_a f8[F_A], bounds f8[R],
 *       columns f8[F_B*4] in and out (sum, inverse root of variance or 0, variance, low),
 *       penalty f8[F_B], limit_names i4[F_B],
 *       row_scores f8[R*k] in and out, row_names i4[R*k], column_scores f8[F_B*kc], column_names i4[F_B*kc],
 *       sums f8[F_B], zeros on entry and on return, touched i4)
 * The best columns of some rows, and, where kc > 0, the best rows of all columns. Where `filled`, sums is
 * f8[R*F_B] and holds the products already; A's columns and B's rows are then not looked at. */
static PyObject *sweep(PyObject *self, PyObject *args)
{
    Arrays arrays;
    const double words = (double)read_whole(args, 0);
    const int64_t filled = read_whole(args, 1), kc = read_whole(args, 2);
    if (PyErr_Occurred() || !open_arrays(args, 3, "liflifidddDdiDIDIDI", &arrays))
        return NULL;
    const int64_t *length = arrays.length;
    const int64_t *indptr_a = arrays.view[0].buf, *indptr_b = arrays.view[3].buf;
    const int32_t *words_a = arrays.view[1].buf, *indices_b = arrays.view[4].buf, *rows = arrays.view[6].buf;
    const float *values_a = arrays.view[2].buf, *values_b = arrays.view[5].buf;
    const double *sums_a = arrays.view[7].buf, *variances_a = arrays.view[8].buf,
                 *bounds = arrays.view[9].buf;
    double *row_scores = arrays.view[13].buf, *all_sums = arrays.view[17].buf;
    int32_t *row_names = arrays.view[14].buf, *touched = arrays.view[18].buf;
    const int64_t count = length[6], features_a = length[7], features_b = length[11];
    const int64_t k = count ? length[13] / count : 1, word_count = length[3] - 1;
    Side side = {arrays.view[10].buf, arrays.view[11].buf, arrays.view[12].buf,
                 arrays.view[15].buf, arrays.view[16].buf, kc};
    if (length[8] != features_a || length[9] != count || length[10] != 4 * features_b ||
        length[12] != features_b || k < 1 || length[13] != count * k || length[14] != count * k ||
        kc < 0 || length[15] != kc * features_b || length[16] != kc * features_b ||
        length[17] != (filled ? count : 1) * features_b || word_count < 0 ||
        (!filled && (length[0] != features_a + 1 || length[1] != length[2] || length[4] != length[5] ||
                     indptr_a[features_a] > length[1] || indptr_b[word_count] > length[4])))
        return refuse(&arrays, "sweep: lengths do not fit");
    for (int64_t i = 0; i < count; i++)
        if (rows[i] < 0 || rows[i] >= features_a)
            return refuse(&arrays, "sweep: there is no such row");
    Py_BEGIN_ALLOW_THREADS
    for (int64_t i = 0; i < count; i++) {
        const int32_t a = rows[i];
        if (!(variances_a[a] > 0))
            continue;
        Row row = {words, sums_a[a], variances_a[a], 1 / sqrt(variances_a[a]), bounds[i], a,
                   row_scores + i * k, row_names + i * k, k};
        double low = row.scores[k - 1] > row.bound ? row.scores[k - 1] : row.bound;
        double *sums = filled ? all_sums + i * features_b : all_sums;
        int64_t listed = -1;
        if (!filled)
            listed = gather(indptr_a[a], indptr_a[a + 1], words_a, values_a, indptr_b, indices_b, values_b,
                            sums, touched, length[18]);
        const int64_t places = listed < 0 ? features_b : listed;
        for (int64_t place = 0; place < places; place++) {
            const int32_t b = listed < 0 ? (int32_t)place : touched[place];
            const double sum = sums[b];
            if (sum == 0)
                continue;
            if (!filled)
                sums[b] = 0;
            if (kc)
                offer_both(&row, &side, b, sum, &low);
            else
                offer_row(&row, &side, b, sum, &low);
        }
    }
    Py_END_ALLOW_THREADS
    close_arrays(&arrays);
    Py_RETURN_NONE;
}

/* accumulate(indptr_a i8[T+1], words_a i4, values_a f4, indptr_b i8[W+1], indices_b i4, values_b f4,
 *            sums f8[T*F_B] in and out)
 * Add the products of one chunk of words. */
static PyObject *accumulate(PyObject *self, PyObject *args)
{
    Arrays arrays;
    if (!open_arrays(args, 0, "liflifD", &arrays))
        return NULL;
    const int64_t *indptr_a = arrays.view[0].buf, *indptr_b = arrays.view[3].buf;
    const int64_t rows = arrays.length[0] - 1, words = arrays.length[3] - 1;
    const int64_t features = rows > 0 ? arrays.length[6] / rows : 0;
    if (rows < 0 || words < 0 || arrays.length[1] != arrays.length[2] ||
        arrays.length[4] != arrays.length[5] || indptr_a[rows] > arrays.length[1] ||
        indptr_b[words] > arrays.length[4] || arrays.length[6] != rows * features)
        return refuse(&arrays, "accumulate: lengths do not fit");
    double *sums = arrays.view[6].buf;
    Py_BEGIN_ALLOW_THREADS
    for (int64_t row = 0; row < rows; row++)
        gather(indptr_a[row], indptr_a[row + 1], arrays.view[1].buf, arrays.view[2].buf, indptr_b,
               arrays.view[4].buf, arrays.view[5].buf, sums + row * features, NULL, -1);
    Py_END_ALLOW_THREADS
    close_arrays(&arrays);
    Py_RETURN_NONE;
}

/* merge(k, scores f8[F*k] in and out, names i4[F*k] in and out, other scores f8[F*k], other names i4[F*k]) */
static PyObject *merge(PyObject *self, PyObject *args)
{
    Arrays arrays;
    const int64_t k = read_whole(args, 0);
    if (PyErr_Occurred() || !open_arrays(args, 1, "DIdi", &arrays))
        return NULL;
    double *scores = arrays.view[0].buf;
    int32_t *names = arrays.view[1].buf;
    const double *other_scores = arrays.view[2].buf;
    const int32_t *other_names = arrays.view[3].buf;
    const int64_t total = arrays.length[0];
    if (k < 1 || total % k || arrays.length[1] != total || arrays.length[2] != total ||
        arrays.length[3] != total)
        return refuse(&arrays, "merge: lengths do not fit");
    Py_BEGIN_ALLOW_THREADS
    for (int64_t begin = 0; begin < total; begin += k)
        for (int64_t place = begin; place < begin + k && other_names[place] >= 0; place++)
            if (precedes(other_scores[place], other_names[place], scores[begin + k - 1], names[begin + k - 1]))
                insert(scores + begin, names + begin, k, other_scores[place], other_names[place]);
    Py_END_ALLOW_THREADS
    close_arrays(&arrays);
    Py_RETURN_NONE;
}

/* dot(slots_a i4[P], slots_b i4[P], indptr_a i8, words_a i4, values_a f4, indptr_b i8, words_b i4, values_b f4,
 *     row f4[W] zeros, sums f8[P] in and out, counts i8[P] in and out)
 * Add one chunk's sum of products and its common words to some pairs; fastest where slots_a is sorted. */
static PyObject *dot(PyObject *self, PyObject *args)
{
    Arrays arrays;
    if (!open_arrays(args, 0, "iiliflifFDL", &arrays))
        return NULL;
    const int32_t *slots_a = arrays.view[0].buf, *slots_b = arrays.view[1].buf, *words_a = arrays.view[3].buf,
                  *words_b = arrays.view[6].buf;
    const int64_t *indptr_a = arrays.view[2].buf, *indptr_b = arrays.view[5].buf;
    const float *values_a = arrays.view[4].buf, *values_b = arrays.view[7].buf;
    float *spread = arrays.view[8].buf;
    double *sums = arrays.view[9].buf;
    int64_t *counts = arrays.view[10].buf;
    const int64_t *length = arrays.length, pairs = length[0];
    const int64_t rows_a = length[2] - 1, rows_b = length[5] - 1;
    if (length[1] != pairs || rows_a < 0 || rows_b < 0 || length[3] != length[4] || length[6] != length[7] ||
        indptr_a[rows_a] > length[3] || indptr_b[rows_b] > length[6] || length[9] != pairs ||
        length[10] != pairs)
        return refuse(&arrays, "dot: lengths do not fit");
    for (int64_t p = 0; p < pairs; p++)
        if (slots_a[p] < 0 || slots_a[p] >= rows_a || slots_b[p] < 0 || slots_b[p] >= rows_b)
            return refuse(&arrays, "dot: there is no such slot");
    Py_BEGIN_ALLOW_THREADS
    int32_t held = -1;
    for (int64_t p = 0; p < pairs; p++) {
        if (slots_a[p] != held) {
            if (held >= 0)
                for (int64_t e = indptr_a[held]; e < indptr_a[held + 1]; e++)
                    spread[words_a[e]] = 0;
            held = slots_a[p];
            for (int64_t e = indptr_a[held]; e < indptr_a[held + 1]; e++)
                spread[words_a[e]] = values_a[e];
        }
        double sum = sums[p];
        int64_t count = counts[p];
        for (int64_t e = indptr_b[slots_b[p]]; e < indptr_b[slots_b[p] + 1]; e++) {
            const float x = spread[words_b[e]];
            sum += (double)x * values_b[e];
            count += x != 0;
        }
        sums[p] = sum;
        counts[p] = count;
    }
    Py_END_ALLOW_THREADS
    close_arrays(&arrays);
    Py_RETURN_NONE;
}

/* One side of the assignment problem: its edges as rows, its partners (-1: none) and its dual prices. */
typedef struct {
    int64_t count;
    const int64_t *indptr;
    const int32_t *other;
    const double *worth;
    int32_t *partner;
    double *dual;
} Party;

/* What one search writes to, over the nodes of the side that is searched. */
typedef struct {
    double *distance;
    int32_t *parent, *place, *heap, *reached;
    int64_t heaped, count;
} Search;

static void settle(Search *search, int64_t at, int32_t node)
{
    search->heap[at] = node;
    search->place[node] = (int32_t)at;
}

static void rise(Search *search, int32_t node)
{
    int64_t at = search->place[node];
    const double key = search->distance[node];
    for (; at > 0 && search->distance[search->heap[(at - 1) / 2]] > key; at = (at - 1) / 2)
        settle(search, at, search->heap[(at - 1) / 2]);
    settle(search, at, node);
}

static int32_t pop(Search *search)
{
    const int32_t first = search->heap[0], node = search->heap[--search->heaped];
    const double key = search->distance[node];
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < search->heaped; at = child) {
        if (child + 1 < search->heaped &&
            search->distance[search->heap[child + 1]] < search->distance[search->heap[child]])
            child++;
        if (search->distance[search->heap[child]] >= key)
            break;
        settle(search, at, search->heap[child]);
    }
    settle(search, at, node);
    return first;
}

/* Satisfy one unpaired node whose dual price is not 0: along the shortest path (Dijkstra, reduced costs) pair
 * it, or leave unpaired whichever node on the way can do so most cheaply. Duals stay feasible. */
static void augment(int32_t start, const Party *own, const Party *other, Search *search)
{
    double best = own->dual[start], here = 0;
    int32_t x = start, drop = start, end = -1;
    search->heaped = search->count = 0;
    for (;;) {
        for (int64_t e = own->indptr[x]; e < own->indptr[x + 1]; e++) {
            const int32_t y = own->other[e];
            if (y == own->partner[x])
                continue;
            const double slack = own->dual[x] + other->dual[y] - own->worth[e];
            const double reach = here + (slack > 0 ? slack : 0);
            if (reach >= best || reach >= search->distance[y])
                continue;
            const int known = search->distance[y] < INFINITY;
            search->distance[y] = reach;
            search->parent[y] = x;
            if (!known)
                search->reached[search->count++] = y;
            if (other->partner[y] < 0) {
                best = reach;
                end = y;
                continue;
            }
            if (!known)
                settle(search, search->heaped++, y);
            rise(search, y);
        }
        if (!search->heaped || search->distance[search->heap[0]] >= best)
            break;
        const int32_t y = pop(search);
        x = other->partner[y];
        here = search->distance[y];
        if (here + own->dual[x] < best) {
            best = here + own->dual[x];
            drop = x;
            end = -1;
        }
    }
    own->dual[start] -= best;
    for (int64_t i = 0; i < search->count; i++) {
        const int32_t y = search->reached[i];
        const double gain = best - search->distance[y];
        if (gain > 0 && other->partner[y] >= 0) {
            other->dual[y] += gain;
            own->dual[other->partner[y]] -= gain;
        }
        search->distance[y] = INFINITY;
    }
    if (end < 0) {
        own->dual[drop] = 0;
        end = own->partner[drop];
        own->partner[drop] = -1;
        if (drop == start)
            return;
    }
    for (;;) {
        x = search->parent[end];
        const int32_t next = own->partner[x];
        own->partner[x] = end;
        other->partner[end] = x;
        if (x == start)
            return;
        end = next;
    }
}

/* assign(indptr_a i8[F_A+1], columns i4[E], worth_a f8[E], indptr_b i8[F_B+1], rows i4[E], worth_b f8[E],
 *        partners_a i4[F_A], partners_b i4[F_B], gains f8[F_A], prices f8[F_B]: in and out)
 * Make a pairing optimal whose duals are feasible and tight on its pairs. */
static PyObject *assign(PyObject *self, PyObject *args)
{
    Arrays arrays;
    if (!open_arrays(args, 0, "lidlidIIDD", &arrays))
        return NULL;
    const int64_t *length = arrays.length, a = length[6], b = length[7], most = a > b ? a : b;
    Party sides[2] = {
        {a, arrays.view[0].buf, arrays.view[1].buf, arrays.view[2].buf, arrays.view[6].buf,
         arrays.view[8].buf},
        {b, arrays.view[3].buf, arrays.view[4].buf, arrays.view[5].buf, arrays.view[7].buf,
         arrays.view[9].buf},
    };
    if (length[0] != a + 1 || length[3] != b + 1 || length[8] != a || length[9] != b ||
        length[1] != length[2] || length[4] != length[5] || length[1] != length[4] ||
        sides[0].indptr[a] != length[1] || sides[1].indptr[b] != length[4])
        return refuse(&arrays, "assign: lengths do not fit");
    for (int64_t e = 0; e < length[1]; e++)
        if (sides[0].other[e] < 0 || sides[0].other[e] >= b || sides[1].other[e] < 0 || sides[1].other[e] >= a)
            return refuse(&arrays, "assign: there is no such feature");
    char *space = malloc((size_t)(most + 1) * (sizeof(double) + 4 * sizeof(int32_t)));
    if (!space) {
        close_arrays(&arrays);
        return PyErr_NoMemory();
    }
    Search search = {.distance = (double *)space};
    search.parent = (int32_t *)(search.distance + most + 1);
    search.place = search.parent + most + 1;
    search.heap = search.place + most + 1;
    search.reached = search.heap + most + 1;
    Py_BEGIN_ALLOW_THREADS
    for (int64_t i = 0; i < most; i++)
        search.distance[i] = INFINITY;
    for (int turn = 0; turn < 2; turn++)
        for (int32_t node = 0; node < sides[turn].count; node++)
            if (sides[turn].partner[node] < 0 && sides[turn].dual[node] > 0)
                augment(node, &sides[turn], &sides[1 - turn], &search);
    Py_END_ALLOW_THREADS
    free(space);
    close_arrays(&arrays);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"transpose", transpose, METH_VARARGS, "Scatter rows into columns."},
    {"sweep", sweep, METH_VARARGS, "The best partners of rows and columns."},
    {"accumulate", accumulate, METH_VARARGS, "Add a chunk's products to dense rows."},
    {"merge", merge, METH_VARARGS, "The best of two sets of lists."},
    {"dot", dot, METH_VARARGS, "Sums of products of named pairs."},
    {"assign", assign, METH_VARARGS, "Make a pairing optimal."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_sparse", NULL, -1, methods};

PyMODINIT_FUNC PyInit__sparse(void) { return PyModule_Create(&module); }
