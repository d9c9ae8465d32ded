/* Judges an answer by an exported case of the oracle:  read_case CASE.safetensors ANSWER.safetensors

   CASE is a file of `minitf oracle export NAME --format safetensors`. ANSWER is a safetensors file with the arrays
   "output.NAME", all of them, and any of the "gradient.NAME", under the names and in the shapes that CASE has, as F64,
   F32, F16, BF16, F8_E4M3, F8_E5M2, I64 or I32. Prints for every array the largest error in units of its tolerance and
   where it is, then the largest of all. Decisions (integer outputs) have tolerance 0: they must be those of CASE.
   Status: 0 within tolerance; 1 not, or an output is missing or a shape is wrong; 2 wrong usage or a damaged file.
   Limits: a header of 1 MiB, 256 arrays of at most 8 axes, names of at most 127 characters without escapes. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AXES = 8, ARRAYS = 256, NAME = 128, HEADER = 1 << 20 };
typedef struct { const char *dtype; unsigned bytes, exponent, mantissa; } Format; /* no exponent: an integer */
typedef struct { char name[NAME], dtype[NAME]; uint64_t axes, shape[AXES], range[2]; } Array; /* range: of bytes */
typedef struct { const char *path, *at; unsigned char *data; uint64_t size; int arrays; Array array[ARRAYS]; } File;
static const Format formats[] = {{"F64", 8, 11, 52}, {"F32", 4, 8, 23}, {"F16", 2, 5, 10}, {"BF16", 2, 8, 7},
                                 {"F8_E4M3", 1, 4, 3}, {"F8_E5M2", 1, 5, 2}, {"I64", 8, 0, 0}, {"I32", 4, 0, 0}};

static _Noreturn void damaged(const File *f, const char *why) { fprintf(stderr, "%s: %s\n", f->path, why), exit(2); }
static int next(File *f, char c) { /* is it c? f->at is where the header is read; it ends with a NUL */
    while (*f->at && strchr(" \t\r\n", *f->at)) f->at++;
    return c && *f->at == c ? f->at++, 1 : 0;
}
static void expect(File *f, char c) { if (!next(f, c)) damaged(f, "not the header of a safetensors file"); }
static void string(File *f, char *into) { /* NULL: of any length, skipped */
    expect(f, '"');
    const char *start = f->at;
    while (*f->at && *f->at != '"') f->at += *f->at == '\\' && f->at[1] ? 2 : 1;
    size_t n = (size_t)(f->at - start);
    if (into && (n >= NAME || memchr(start, '\\', n))) damaged(f, "a name in the header is too long or has escapes");
    if (into) memcpy(into, start, n), into[n] = 0;
    if (*f->at++ != '"') damaged(f, "the header ends in a name");
}
static uint64_t numbers(File *f, uint64_t *x, uint64_t most) {
    uint64_t n = 0;
    for (expect(f, '['); !next(f, ']'); n++) {
        char *end;
        if (n) expect(f, ','), next(f, 0); /* skips space */
        if (n == most || *f->at < '0' || *f->at > '9') damaged(f, "the header has a wrong list of numbers");
        x[n] = strtoull(f->at, &end, 10), f->at = end; /* one that is too large becomes the largest */
    }
    return n;
}
static void describe(File *f, Array *a) { /* {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48]} in any order */
    char key[NAME];
    a->range[0] = 1; /* after range[1], until it is read */
    expect(f, '{');
    do {
        string(f, key), expect(f, ':');
        if (!strcmp(key, "dtype")) string(f, a->dtype);
        else if (!strcmp(key, "shape")) a->axes = numbers(f, a->shape, AXES);
        else if (strcmp(key, "data_offsets") || numbers(f, a->range, 2) != 2) damaged(f, "an array is ill described");
    } while (next(f, ','));
    expect(f, '}');
    if (a->range[0] > a->range[1] || a->range[1] > f->size) damaged(f, "an array is not inside the file");
}
static void load(File *f, const char *path) {
    static char text[HEADER + 1];
    unsigned char length[8];
    uint64_t header = 0, end = 0;
    FILE *stream = fopen(f->path = path, "rb");
    if (!stream || fread(length, 1, 8, stream) != 8) damaged(f, "cannot be read, or is no safetensors file");
    for (int i = 0; i < 8; i++) header |= (uint64_t)length[i] << 8 * i;
    if (header > HEADER || fread(text, 1, header, stream) != header) damaged(f, "the header is too long or cut off");
    text[header] = 0, f->at = text;
    long start = ftell(stream), total = fseek(stream, 0, SEEK_END) ? -1 : ftell(stream);
    if (start < 0 || total < start || fseek(stream, start, SEEK_SET)) damaged(f, "is not a file");
    f->size = (uint64_t)(total - start), f->data = malloc(f->size + 1);
    if (!f->data || fread(f->data, 1, f->size, stream) != f->size) damaged(f, "cannot be read");
    fclose(stream);
    expect(f, '{');
    do {
        Array *a = &f->array[f->arrays];
        if (f->arrays == ARRAYS) damaged(f, "has too many arrays");
        string(f, a->name), expect(f, ':');
        if (!strcmp(a->name, "__metadata__")) { /* strings by name, skipped */
            for (expect(f, '{'); !next(f, '}');) if (!next(f, ',') && !next(f, ':')) string(f, NULL);
        } else {
            describe(f, a), f->arrays++;
            if (end < a->range[1]) end = a->range[1];
        }
    } while (next(f, ','));
    expect(f, '}');
    if (next(f, 0) || f->at != text + header || end != f->size) damaged(f, "the header does not fit the data");
}
static const Array *find(const File *f, const char *prefix, const char *name) {
    for (const Array *a = f->array; a < f->array + f->arrays; a++)
        if (!strncmp(a->name, prefix, strlen(prefix)) && !strcmp(a->name + strlen(prefix), name)) return a;
    return NULL;
}
static const Format *format(const File *f, const Array *a) { /* which must fit the shape and the bytes */
    uint64_t count = 1, bytes = a->range[1] - a->range[0];
    for (uint64_t i = 0; i < a->axes; i++)
        count = a->shape[i] && count > UINT64_MAX / a->shape[i] ? UINT64_MAX : count * a->shape[i];
    for (const Format *t = formats; t < formats + sizeof formats / sizeof *formats; t++)
        if (!strcmp(t->dtype, a->dtype) && bytes % t->bytes == 0 && bytes / t->bytes == count) return t;
    damaged(f, "an array has an unknown dtype, or more or fewer bytes than its shape needs");
}
static double element(const File *f, const Array *a, const Format *t, uint64_t i) {
    const unsigned char *byte = f->data + a->range[0] + i * t->bytes;
    uint64_t bits = 0, one = (uint64_t)1 << t->mantissa;
    for (unsigned k = 0; k < t->bytes; k++) bits |= (uint64_t)byte[k] << 8 * k;
    if (!t->exponent) return t->bytes == 4 ? (double)(int32_t)bits : (double)(int64_t)bits;
    int most = (1 << t->exponent) - 1, power = (int)(bits >> t->mantissa) & most;
    uint64_t rest = bits & (one - 1);
    double x = ldexp((double)(power ? rest + one : rest), (power ? power : 1) - most / 2 - (int)t->mantissa);
    if (power == most && (t->mantissa != 3 || rest == 7)) x = rest ? NAN : INFINITY; /* E4M3 has NaN and no infinity */
    return bits >> (t->mantissa + t->exponent) & 1 ? -x : x;
}
static int alike(const Array *a, const Array *b) {
    return a->axes == b->axes && !memcmp(a->shape, b->shape, sizeof a->shape);
}
static double judge(const File *f, const Array *right, const File *g, const Array *got) { /* the largest error */
    const Array *allowed = find(f, "tolerance.", right->name);
    if (!allowed || !alike(allowed, right)) damaged(f, "an array has no tolerance of its shape: not an exported case");
    const Format *r = format(f, right), *t = format(f, allowed), *s = got ? format(g, got) : NULL;
    const char *problem = !s ? "is missing" : alike(got, right) ? NULL : "has another shape";
    if (problem) return printf("%-24s %s\n", right->name, problem), INFINITY;
    double largest = 0;
    uint64_t worst = 0, left = (right->range[1] - right->range[0]) / r->bytes;
    if (!left) return printf("%-24s is empty\n", right->name), 0;
    for (uint64_t i = 0; i < left; i++) {
        double x = element(f, right, r, i), y = element(g, got, s, i);
        double ratio = x == y ? 0 : fabs(x - y) / element(f, allowed, t, i);
        if (!(ratio >= 0)) ratio = INFINITY; /* NaN */
        if (ratio > largest) largest = ratio, worst = i;
    }
    printf("%-24s %-9.3g expected %.9g, got %.9g, tolerance %.2g at", right->name, largest, element(f, right, r, worst),
           element(g, got, s, worst), element(f, allowed, t, worst));
    for (const uint64_t *n = right->shape; n < right->shape + right->axes; n++)
        left /= *n, printf(" %" PRIu64, worst / left), worst %= left;
    return puts(""), largest;
}
int main(int arguments, char **argument) {
    static File wanted, given;
    double largest = -1;
    if (arguments != 3) return fprintf(stderr, "usage: read_case CASE.safetensors ANSWER.safetensors\n"), 2;
    load(&wanted, argument[1]), load(&given, argument[2]);
    for (const Array *a = wanted.array; a < wanted.array + wanted.arrays; a++) {
        const Array *got = find(&given, "", a->name);
        int gradient = !strncmp(a->name, "gradient.", 9);
        if (gradient && !got) printf("%-24s is not in the answer, not judged\n", a->name);
        else if (gradient || !strncmp(a->name, "output.", 7)) {
            double error = judge(&wanted, a, &given, got);
            if (error > largest) largest = error;
        }
    }
    if (largest < 0) damaged(&wanted, "has no outputs: not an exported case");
    printf("largest error: %.3g of the tolerance, %s\n", largest, largest <= 1 ? "passed" : "FAILED");
    return !(largest <= 1);
}
