/* SPDX-License-Identifier: Apache-2.0
 *
 * Writers: what was put is read back equal; outputs appear whole or not at all; wrong names and full disks are refused.
 */
#include "files.h"

#include <dirent.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include "core/threads.h"
#include "formats/checksum.h"
#include "formats/writer.h"

#define N_T 5
static const int64_t s_matrix[] = {40, 64}, s_blocks[] = {6, 64}, s_vec[] = {7}, s_empty[] = {0, 3};
static pare_out_tensor tensors[N_T];
static unsigned char *data[N_T];
static size_t sizes[N_T];

static void set(size_t i, const char *name, const pare_qtype *qt, int ndim, const int64_t *shape, size_t n) {
    tensors[i] = (pare_out_tensor){.name = name, .type = qt, .ndim = ndim};
    for (int k = 0; k < ndim; k++) tensors[i].shape[k] = shape[k];
    sizes[i] = n;
    data[i] = malloc(n + 1);
    for (size_t k = 0; k < n; k++) data[i][k] = (unsigned char)(k * 31 + i * 7 + (k >> 8));
}
static int setup(void **state) {
    set(0, "model.\"q\"\\\xc3\xa9.weight", &pare_qtype_f32, 2, s_matrix, 40 * 64 * 4);
    set(1, "flags", &pare_qtype_i8, 1, s_vec, 7);
    set(2, "half", &pare_qtype_f16, 2, s_blocks, 6 * 64 * 2);
    set(3, "scalar", &pare_qtype_bf16, 0, NULL, 2);
    set(4, "empty", &pare_qtype_f32, 2, s_empty, 0);
    return make_dir(state);
}

static const pare_meta meta[] =
    {{.key = "general.architecture", .type = PARE_META_STR, .v.str = {"te\"st\n", 6}},
     {.key = "general.alignment", .type = PARE_META_U32, .v.u = 64},
     {.key = "split.no", .type = PARE_META_U16, .v.u = 0},
     {.key = "a.i8", .type = PARE_META_I8, .v.i = -5},
     {.key = "a.u16", .type = PARE_META_U16, .v.u = 65535},
     {.key = "a.i64", .type = PARE_META_I64, .v.i = INT64_MIN},
     {.key = "a.f32", .type = PARE_META_F32, .v.f = 0.25},
     {.key = "a.f64", .type = PARE_META_F64, .v.f = 1e300},
     {.key = "a.bool", .type = PARE_META_BOOL, .v.u = 1},
     {.key = "a.list", .type = PARE_META_ARRAY, .v.arr = {PARE_META_STR, 2, (pare_str[]){{"x", 1}, {"yz", 2}}}},
     {.key = "a.nums", .type = PARE_META_ARRAY, .v.arr = {PARE_META_I32, 2, (int32_t[]){-1, 2}}}};
#define N_META (sizeof meta / sizeof *meta)

static pare_writer_opts options(pare_source_kind kind) {
    pare_writer_opts o = {.kind = kind, .n_tensors = N_T, .tensors = tensors, .n_meta = N_META, .meta = meta};
    return o;
}

static void put_piece(void *w, size_t i) { /* tensor 0 in 64 rows' pieces, from any thread, last first */
    size_t n = sizes[0] / 64, k = 63 - i;
    pare_diag d = {0};
    assert_int_equal(pare_writer_put(w, 0, k * n, data[0] + k * n, n, &d), PARE_OK);
}
static pare_status put_all(pare_writer *w, size_t n, pare_diag *d) {
    for (size_t i = 0; i < n; i++) {
        pare_status s = pare_writer_put(w, i, 0, data[i], sizes[i], d);
        if (s != PARE_OK) return s;
    }
    return PARE_OK;
}
static pare_status write_model(const char *path, const pare_writer_opts *o, pare_diag *d) {
    pare_writer *w;
    pare_status s = pare_writer_open(path, o, &w, d);
    if (s == PARE_OK) s = put_all(w, o->n_tensors, d);
    if (s == PARE_OK) s = pare_writer_finish(w, d);
    pare_writer_close(&w);
    return s;
}
static void writes(const char *path, const pare_writer_opts *o) {
    pare_diag d = {0};
    char line[1200];
    if (write_model(path, o, &d) != PARE_OK) fail_msg("%s", pare_diag_line(&d, line, sizeof line));
}
static void wont(const char *path, const pare_writer_opts *o, pare_status want, const char *says) {
    pare_diag d = {0};
    char line[1200];
    pare_status got = write_model(path, o, &d);
    pare_diag_line(&d, line, sizeof line);
    if (got != want || !strstr(line, says)) fail_msg("status %d: %s\nexpected %d: %s", (int)got, line, (int)want, says);
}
static void check_tensors(const char *path) {
    pare_source *s = opens(path);
    assert_int_equal(s->n_tensors, N_T);
    for (size_t i = 0; i < N_T; i++) {
        const pare_stored *t = pare_source_find(s, tensors[i].name);
        assert_non_null(t);
        assert_ptr_equal(t->type, tensors[i].type);
        assert_int_equal(t->ndim, tensors[i].ndim);
        assert_int_equal(t->bytes, sizes[i]);
        assert_memory_equal(t->data, data[i], sizes[i]);
        assert_memory_equal(t->shape, tensors[i].shape, sizeof t->shape);
    }
    pare_source_close(&s);
}
static size_t entries_of(const char *path) { /* in a folder */
    DIR *f = opendir(path);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(f));) n += e->d_name[0] != '.';
    closedir(f);
    return n;
}

static void test_gguf(void **state) {
    pare_writer *w;
    pare_diag d = {0};
    pare_writer_opts o = options(PARE_SOURCE_GGUF);
    pare_set_threads(4);
    assert_int_equal(pare_writer_open(at("a.gguf"), &o, &w, &d), PARE_OK);
    pare_parallel(64, 1, put_piece, w);
    for (size_t i = 1; i < N_T; i++) assert_int_equal(pare_writer_put(w, i, 0, data[i], sizes[i], &d), PARE_OK);
    assert_int_equal(access(at("a.gguf"), F_OK), -1); /* not before it is whole */
    assert_int_equal(pare_writer_finish(w, &d), PARE_OK);
    struct stat st;
    assert_int_equal(stat(at("a.gguf"), &st), 0);
    assert_int_equal(st.st_size, pare_writer_bytes(w));
    pare_writer_close(&w);
    pare_set_threads(1);
    check_tensors(at("a.gguf"));
    pare_source *s = opens(at("a.gguf"));
    assert_int_equal(s->n_meta, N_META - 2); /* alignment and split keys would be wrong here */
    for (size_t i = 0; i < N_META; i++) {
        const pare_meta *m = pare_source_meta(s, meta[i].key);
        if (i == 1 || i == 2) {
            assert_null(m);
            continue;
        }
        assert_int_equal(m->type, meta[i].type);
        if (m->type == PARE_META_STR) assert_memory_equal(m->v.str.p, meta[i].v.str.p, meta[i].v.str.n);
        else if (m->type == PARE_META_ARRAY) assert_int_equal(m->v.arr.n, 2);
        else assert_true(m->v.u == meta[i].v.u);
    }
    assert_memory_equal(pare_source_meta(s, "a.nums")->v.arr.data, meta[10].v.arr.data, 8);
    for (size_t i = 0; i < s->n_tensors; i++) assert_string_equal(s->tensors[i].name, tensors[i].name); /* order kept */
    pare_source_close(&s);
    assert_int_equal(entries_of(test_dir), 1);
    unlink(at("a.gguf"));
}

static void test_safetensors(void **state) {
    pare_writer_opts o = options(PARE_SOURCE_SAFETENSORS);
    writes(at("a.safetensors"), &o);
    check_tensors(at("a.safetensors"));
    pare_source *s = opens(at("a.safetensors"));
    pare_str v;
    assert_true(pare_meta_get_str(s, "format", &v) && v.n == 2 && memcmp(v.p, "pt", 2) == 0);
    assert_true(pare_meta_get_str(s, "general.architecture", &v) && v.n == 6 && memcmp(v.p, "te\"st\n", 6) == 0);
    for (size_t i = 0; i < s->n_tensors; i++)
        assert_int_equal(s->tensors[i].file_offset % s->tensors[i].type->block_bytes, 0);
    pare_source_close(&s);
    o.n_tensors = 0;
    writes(at("none.safetensors"), &o);
    s = opens(at("none.safetensors"));
    pare_source_close(&s);
    unlink(at("a.safetensors")), unlink(at("none.safetensors"));
}

static pare_writer_opts folder_options(const pare_out_file *files, size_t n) {
    pare_writer_opts o = options(PARE_SOURCE_FOLDER);
    o.n_files = n;
    o.files = files;
    return o;
}

static void test_folder(void **state) {
    static const pare_out_file files[] = {{"config.json", "{\"a\":1}", 7},
                                          {"tokenizer.json", "{}", 2},
                                          {"README.md", "", 0}};
    static const char *copies[] = {"1_Pooling/config.json", "2_Normalize/", "tokenizer.json", "LICENSE"};
    assert_int_equal(mkdir(at("from"), 0700), 0);
    assert_int_equal(mkdir(at("from/1_Pooling"), 0700), 0);
    save_text("from/1_Pooling/config.json", "pool"), save_text("from/tokenizer.json", "old"),
        save_text("from/LICENSE", "");
    pare_writer_opts o = folder_options(files, 3);
    o.n_copies = 4, o.copies = copies;
    char from[300];
    snprintf(from, sizeof from, "%s", at("from"));
    o.copy_from = from;
    writes(at("out/"), &o);
    check_tensors(at("out"));
    assert_int_equal(entries_of(at("out")), 7);
    pare_source *s = opens(at("out"));
    assert_int_equal(s->n_sidecars, 5);
    pare_source_close(&s);
    char text[16] = "";
    FILE *f = fopen(at("out/tokenizer.json"), "r"); /* what is given whole wins over the copy */
    assert_int_equal(fread(text, 1, 15, f), 2);
    fclose(f);
    wont(at("out"), &o, PARE_ERR_EXISTS, "--force");
    o.force = true, o.max_shard_bytes = 9000;
    writes(at("out"), &o); /* exchanged: the single file is gone, the index is there */
    check_tensors(at("out"));
    assert_int_equal(access(at("out/model.safetensors"), F_OK), -1);
    assert_int_equal(access(at("out/model.safetensors.index.json"), F_OK), 0);
    assert_int_equal(access(at("out/model-00002-of-00002.safetensors"), F_OK), 0);
    assert_int_equal(entries_of(test_dir), 2);
    save_text("out/thesis.tex", "mine");
    wont(at("out"), &o, PARE_ERR_EXISTS, "thesis.tex");
    unlink(at("out/thesis.tex"));
    static const char *const out_of[] = {"../x", "/etc/x", "a/b/c", "", "a/../../x"};
    for (size_t i = 0; i < 5; i++) {
        pare_out_file evil = {out_of[i], "x", 1};
        o.files = &evil, o.n_files = 1;
        wont(at("out2"), &o, PARE_ERR_INPUT, "inside the output folder");
    }
    o = folder_options(files, 3);
    o.copy_from = from, o.n_copies = 1, o.copies = (const char *[]){"gone.json"};
    wont(at("out2"), &o, PARE_ERR_NOT_FOUND, "gone.json");
    assert_int_equal(entries_of(test_dir), 2);
}

static void test_names(void **state) {
    pare_writer_opts g = options(PARE_SOURCE_GGUF), f = options(PARE_SOURCE_FOLDER);
    char in[300], dir[300];
    g.force = f.force = true;
    snprintf(in, sizeof in, "%s", at("in.gguf"));
    writes(in, &g);
    g.not_path = f.not_path = in;
    wont(in, &g, PARE_ERR_USAGE, "is the input");
    assert_int_equal(link(in, at("hard.gguf")), 0);
    wont(at("hard.gguf"), &g, PARE_ERR_USAGE, "is the input");
    assert_int_equal(symlink(in, at("soft.gguf")), 0);
    wont(at("soft.gguf"), &g, PARE_ERR_USAGE, "is the input");
    wont(test_dir, &f, PARE_ERR_USAGE, "contains the input");
    assert_int_equal(symlink("nowhere", at("dangling")), 0);
    wont(at("dangling"), &g, PARE_ERR_NOT_FOUND, "leads nowhere");
    wont(at("no/such/x.gguf"), &g, PARE_ERR_IO, "create it first");
    wont("", &g, PARE_ERR_USAGE, "empty");
    wont("/", &g, PARE_ERR_USAGE, "root");
    wont("/proc/x.gguf", &g, PARE_ERR_IO, "cannot create");
    wont("/dev/null", &g, PARE_ERR_EXISTS, "not a file");
    wont(at("out"), &g, PARE_ERR_EXISTS, "not a file");
    wont(in, &f, PARE_ERR_USAGE, "is the input");
    wont(at("soft.gguf"), &(pare_writer_opts){.kind = PARE_SOURCE_FOLDER, .force = true}, PARE_ERR_EXISTS,
         "not a folder");
    snprintf(dir, sizeof dir, "%s", at("out")); /* an input folder */
    g.not_path = f.not_path = dir;
    wont(at("out"), &f, PARE_ERR_USAGE, "is the input");
    wont(at("out/../out/"), &f, PARE_ERR_USAGE, "is the input");
    wont(at("out/sub"), &f, PARE_ERR_USAGE, "inside the input");
    wont(at("out/config.json"), &g, PARE_ERR_USAGE, "own files");
    pare_writer_opts st = options(PARE_SOURCE_SAFETENSORS);
    st.not_path = dir;
    wont(at("out/more.safetensors"), &st, PARE_ERR_USAGE, "inside the input");
    g.not_path = at("out/model.safetensors.index.json");
    wont(at("out/model-00001-of-00002.safetensors"), &g, PARE_ERR_USAGE, "own files");
    g.not_path = NULL;
    writes(at("soft.gguf"), &g); /* through the link: the target is replaced, the link stays */
    struct stat l;
    assert_int_equal(lstat(at("soft.gguf"), &l), 0);
    assert_true(S_ISLNK(l.st_mode));
    check_tensors(in);
}

static void test_refusals(void **state) {
    pare_writer_opts o = options(PARE_SOURCE_GGUF);
    pare_out_tensor one = tensors[0];
    o.tensors = &one, o.n_tensors = 1;
    one.shape[0] = (int64_t)1 << 46;
    wont(at("big.gguf"), &o, PARE_ERR_NOSPACE, "MB free");
    one.shape[0] = (int64_t)1 << 60;
    wont(at("big.gguf"), &o, PARE_ERR_UNSUPPORTED, "63 bits");
    one = tensors[0], one.name = "a name that is longer than the sixty-three bytes which GGUF allows";
    wont(at("x.gguf"), &o, PARE_ERR_UNSUPPORTED, "63 bytes");
    one = tensors[0], one.name = "\xff";
    wont(at("x.gguf"), &o, PARE_ERR_UNSUPPORTED, "UTF-8");
    one = tensors[0], one.type = &pare_qtype_u8;
    wont(at("x.gguf"), &o, PARE_ERR_UNSUPPORTED, "GGUF cannot hold u8");
    one = tensors[0], one.type = pare_qtype_by_name("q4_0"), one.shape[1] = 33;
    wont(at("x.gguf"), &o, PARE_ERR_UNSUPPORTED, "whole blocks");
    one = tensors[0], one.ndim = 5;
    wont(at("x.gguf"), &o, PARE_ERR_UNSUPPORTED, "5 dimensions");
    pare_out_tensor two[2] = {tensors[0], tensors[0]};
    o.tensors = two, o.n_tensors = 2;
    wont(at("x.gguf"), &o, PARE_ERR_UNSUPPORTED, "two tensors");
    o = options(PARE_SOURCE_GGUF);
    o.max_shard_bytes = 1;
    wont(at("x.gguf"), &o, PARE_ERR_UNSUPPORTED, "one file");
    o = options(PARE_SOURCE_SAFETENSORS);
    one = tensors[0], one.type = pare_qtype_by_name("q4_0");
    o.tensors = &one, o.n_tensors = 1;
    wont(at("x.safetensors"), &o, PARE_ERR_UNSUPPORTED, "safetensors cannot hold q4_0");
    assert_int_equal(access(at("x.gguf"), F_OK), -1);
}

/* The temporary name of this output, in path; false when there is none. */
static bool temp_of(const char *base, char path[600]) {
    DIR *f = opendir(test_dir);
    bool found = false;
    for (struct dirent *e; !found && (e = readdir(f));)
        if (strncmp(e->d_name, base, strlen(base)) == 0 && strstr(e->d_name, ".pare-tmp-")) {
            snprintf(path, 600, "%s/%s", test_dir, e->d_name);
            found = true;
        }
    closedir(f);
    return found;
}

static void test_incomplete(void **state) {
    pare_writer_opts o = options(PARE_SOURCE_GGUF);
    pare_writer *w;
    char temp[600];
    for (int mode = 0; mode < 5; mode++) {
        pare_diag d = {0};
        assert_int_equal(pare_writer_open(at("i.gguf"), &o, &w, &d), PARE_OK);
        assert_true(temp_of("i.gguf", temp));
        for (size_t i = 0; i < N_T; i++) /* mode 0: a tensor is missing; 1: a byte is missing; 2: bytes twice */
            if (mode != 0 || i != 2)
                assert_int_equal(pare_writer_put(w, i, 0, data[i], sizes[i] - (mode == 1 && i == 2), &d), PARE_OK);
        if (mode == 2) assert_int_equal(pare_writer_put(w, 2, 4, data[2], 4, &d), PARE_OK);
        if (mode == 3) { /* the disk says something else */
            int fd = open(temp, O_RDWR);
            struct stat st;
            fstat(fd, &st);
            assert_int_equal(pwrite(fd, "\x55\xAA", 2, st.st_size - 300), 2);
            close(fd);
        }
        if (mode == 4)
            assert_int_equal(pare_writer_put(w, 1, 5, data[1], 3, &d), PARE_ERR_INTERNAL); /* beyond the end */
        if (mode == 4) d = (pare_diag){0};
        pare_status s = pare_writer_finish(w, &d), want = mode == 3   ? PARE_ERR_IO
                                                          : mode == 4 ? PARE_OK
                                                                      : PARE_ERR_INTERNAL;
        assert_int_equal(s, want);
        if (mode == 3) assert_non_null(strstr(d.text, "other bytes"));
        pare_writer_close(&w);
        assert_false(temp_of("i.gguf", temp));
        assert_int_equal(access(at("i.gguf"), F_OK), mode == 4 ? 0 : -1);
    }
    o.force = true;
    pare_diag d = {0};
    assert_int_equal(pare_writer_open(at("i.gguf"), &o, &w, &d), PARE_OK); /* given up: the old one stays */
    pare_writer_close(&w);
    check_tensors(at("i.gguf"));
    assert_false(temp_of("i.gguf", temp));
}

static void test_stale(void **state) {
    char temp[600];
    pare_writer_opts o = options(PARE_SOURCE_GGUF), f = options(PARE_SOURCE_FOLDER);
    save_text("s.gguf.pare-tmp-0123abcd", "left by a killed run");
    save_text("s.gguf.pare-tmp-mine", "not ours");
    const char *held = save_text("s.gguf.pare-tmp-89abcdef", "a run that lives");
    int fd = open(held, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    writes(at("s.gguf"), &o);
    assert_int_equal(access(at("s.gguf.pare-tmp-0123abcd"), F_OK), -1);
    assert_int_equal(access(at("s.gguf.pare-tmp-mine"), F_OK), 0);
    assert_int_equal(access(at("s.gguf.pare-tmp-89abcdef"), F_OK), 0);
    close(fd);
    unlink(at("s.gguf.pare-tmp-mine"));
    o.force = true;
    writes(at("s.gguf"), &o);
    assert_false(temp_of("s.gguf", temp));
    assert_int_equal(mkdir(at("d.pare-tmp-00000000"), 0700), 0);
    assert_int_equal(mkdir(at("d.pare-tmp-00000000/1_Pooling"), 0700), 0);
    save_text("d.pare-tmp-00000000/1_Pooling/x", "x");
    assert_int_equal(mkdir(at("d.pare-old-00000001"), 0700),
                     0); /* killed between two renames: the old folder comes back */
    save_text("d.pare-old-00000001/config.json", "{}");
    wont(at("d"), &f, PARE_ERR_EXISTS, "--force");
    assert_int_equal(access(at("d/config.json"), F_OK), 0);
    assert_false(temp_of("d", temp));
}

static void test_file_limit(void **state) { /* the kernel refuses to grow the file: an error, and nothing is left */
    struct rlimit old, small = {4096, 4096};
    char temp[600];
    pare_writer_opts o = options(PARE_SOURCE_GGUF);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    pare_diag d = {0};
    pare_status s = write_model(at("l.gguf"), &o, &d);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(s, PARE_ERR_IO);
    assert_non_null(strstr(d.text, "cannot"));
    assert_false(temp_of("l.gguf", temp));
    assert_int_equal(access(at("l.gguf"), F_OK), -1);
}

static pare_status whole_write(void *ctx) {
    static const pare_out_file files[] = {{"config.json", "{}", 2}, {"1_Pooling/config.json", "{}", 2}};
    pare_writer_opts o = folder_options(files, 2);
    pare_source_kind kind = *(pare_source_kind *)ctx;
    if (kind == PARE_SOURCE_GGUF) o = options(kind);
    o.kind = kind, o.force = true, o.max_shard_bytes = kind == PARE_SOURCE_FOLDER ? 4000 : 0;
    return write_model(kind == PARE_SOURCE_GGUF ? at("k.gguf") : at("k"), &o, NULL);
}

static void test_alloc(void **state) {
    char temp[600];
    pare_source_kind kinds[] = {PARE_SOURCE_GGUF, PARE_SOURCE_FOLDER};
    for (size_t i = 0; i < 2; i++) {
        harness_fail_every_alloc(whole_write, &kinds[i]);
        assert_false(temp_of("k", temp));
    }
    check_tensors(at("k.gguf"));
    check_tensors(at("k"));
}

static void test_checksum(void **state) {
    size_t n = 3 * PARE_CHECKSUM_CHUNK + 77;
    unsigned char *p = calloc(1, n);
    uint64_t whole = pare_checksum(0, p, n), pieces = 0;
    for (size_t k = 0; k < n; k += PARE_CHECKSUM_CHUNK)
        pieces = pare_checksum(pieces, p + k, n - k < PARE_CHECKSUM_CHUNK ? n - k : PARE_CHECKSUM_CHUNK);
    assert_true(whole == pieces);
    static const size_t where[] =
        {0, 7, 63, 64, 4095, PARE_CHECKSUM_CHUNK - 1, PARE_CHECKSUM_CHUNK, 3 * PARE_CHECKSUM_CHUNK + 76};
    for (size_t i = 0; i < 8; i++)
        for (int bit = 0; bit < 8; bit++) {
            p[where[i]] ^= (unsigned char)(1 << bit);
            assert_true(pare_checksum(0, p, n) != whole);
            p[where[i]] ^= (unsigned char)(1 << bit);
        }
    for (size_t k = 0; k < 200; k++)
        assert_true(pare_checksum(0, p, k) != pare_checksum(0, p, k + 1)); /* length counts */
    p[0] = 1;
    uint64_t a = pare_checksum(0, p, 128);
    p[0] = 0, p[64] = 1; /* and so does place */
    assert_true(a != pare_checksum(0, p, 128));
    free(p);
}

int main(void) {
    pare_set_threads(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gguf),     cmocka_unit_test(test_safetensors),
                                       cmocka_unit_test(test_folder),   cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_refusals), cmocka_unit_test(test_incomplete),
                                       cmocka_unit_test(test_stale),    cmocka_unit_test(test_file_limit),
                                       cmocka_unit_test(test_alloc),    cmocka_unit_test(test_checksum)};
    return cmocka_run_group_tests(tests, setup, remove_dir);
}
