/* SPDX-License-Identifier: Apache-2.0
 *
 * A folder: u16 length of config.json, config.json, then what may be model.safetensors or its index. The quantized
 * layouts hang on these two agreeing. */
#include "fuzz_source.h"

#include <fcntl.h>

static char dir[64];

static void remove_folder(void) {
    char cmd[96];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    if (system(cmd) != 0) perror(dir);
}

static void save(const char *name, const uint8_t *p, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n) abort();
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!*dir) {
        snprintf(dir, sizeof dir, "%s/pare-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (!mkdtemp(dir)) abort();
        atexit(remove_folder);
    }
    if (n < 2) return 0;
    size_t config = (size_t)(data[0] | data[1] << 8);
    if (config > n - 2) config = n - 2;
    bool index = n > 2 + config && data[2 + config] == '{';
    save("config.json", data + 2, config);
    save(index ? "model.safetensors.index.json" : "model.safetensors", data + 2 + config, n - 2 - config);
    fuzz_open(dir);
    if (index) {
        char path[128];
        snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
        unlink(path);
    }
    return 0;
}

#define CT(bits, strategy)                                                                                             \
    "{\"quantization_config\":{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_"        \
    "groups\":{\"g\":{\"weights\":{\"num_bits\":" bits ",\"strategy\":\"" strategy "\"}}}}}"
#define SPARSE "{\"quantization_config\":{\"quant_method\":\"pare-sparse\",\"version\":1}}"
#define E(name, dtype, shape, from, to)                                                                                \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

/* Seeds 6 and 7, where counts and indexes must agree: two rows of eight columns. */
static const char two_of_four[] = "0123456789abcdef" /* values */
                                  "\x4d\x98"         /* indexes */
                                  "\2\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
static const char runs_of_four[] = "abcdefgh"                                           /* values */
                                   "\2\1"                                               /* masks */
                                   "\0\x3c\0\x38"                                       /* scales */
                                   "\0\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0" /* offsets */
                                   "\2\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\4\0\0\0\0\0\0";

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) {
    static const struct {
        const char *config, *header;
        size_t data;
    } seeds[] = {{CT("4", "group"),
                  "{" E("a.weight_packed", "I32", "[2,8]", "0", "64") "," E("a.weight_scale", "F16", "[2,2]", "64",
                                                                            "72") "," E("a.weight_shape", "I64", "[2]",
                                                                                        "72", "88") "}",
                  88},
                 {CT("4", "channel"),
                  "{" E("a.weight_packed", "I32", "[2,1]", "0",
                        "8") "," E("a.weight_scale", "BF16", "[2,1]", "8",
                                   "12") "," E("a.weight_zero_point", "I32", "[1,1]", "12",
                                               "16") "," E("a.weight_shape", "I64", "[2]", "16", "32") "}",
                  32},
                 {CT("8", "channel"),
                  "{" E("a.weight", "I8", "[4,6]", "0", "24") "," E("a.weight_scale", "F32", "[4,1]", "24",
                                                                    "40") "," E("a.input_scale", "F32", "[1]", "40",
                                                                                "44") "}",
                  44},
                 {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":32,\"checkpoint_"
                  "format\":\"gptq\"}}",
                  "{" E("l.qweight", "I32", "[4,8]", "0",
                        "128") "," E("l.qzeros", "I32", "[1,1]", "128",
                                     "132") "," E("l.scales", "F16", "[1,8]", "132",
                                                  "148") "," E("l.g_idx", "I32", "[32]", "148", "276") "}",
                  276},
                 {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":8,\"checkpoint_format\":\"gptq_v2\"}}",
                  "{" E("l.qweight", "I32", "[2,4]", "0", "32") "," E("l.qzeros", "I32", "[2,1]", "32",
                                                                      "40") "," E("l.scales", "F16", "[2,4]", "40",
                                                                                  "56") "," E("l.g_idx", "I32", "[8]",
                                                                                              "56", "88") "}",
                  88},
                 {"{\"quantization_config\":{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemm\"}}",
                  "{" E("l.qweight", "I32", "[32,1]", "0", "128") "," E("l.qzeros", "I32", "[1,1]", "128",
                                                                        "132") "," E("l.scales", "F16", "[1,8]", "132",
                                                                                     "148") "}",
                  148},
                 {SPARSE,
                  "{" E("a.weight_values", "F16", "[2,4]", "0", "16") "," E("a.weight_index", "U8", "[2,1]", "16",
                                                                            "18") "," E("a.weight_shape", "I64", "[3]",
                                                                                        "18", "42") "}",
                  42},
                 {SPARSE,
                  "{" E("a.weight_values", "I8", "[8]", "0",
                        "8") "," E("a.weight_mask", "U8", "[2,1]", "8",
                                   "10") "," E("a.weight_scale", "F16", "[2,1]", "10",
                                               "14") "," E("a.weight_row_offsets", "I64", "[3]", "14",
                                                           "38") "," E("a.weight_shape", "I64", "[3]", "38", "62") "}",
                  62},
                 {"{\"model_type\":\"llama\"}", "{\"weight_map\":{\"a\":\"model.safetensors\",\"b\":\"../x\"}}", 0}};
    fuzz_buf b = {buf, 0, cap};
    if (i >= sizeof seeds / sizeof *seeds) return 0;
    fuzz_put_int(&b, strlen(seeds[i].config), 2);
    fuzz_put_text(&b, seeds[i].config);
    if (seeds[i].data) fuzz_put_int(&b, strlen(seeds[i].header), 8);
    fuzz_put_text(&b, seeds[i].header);
    for (size_t k = 0; k < seeds[i].data; k++) {
        if (i == 6 || i == 7) {
            fuzz_put_int(&b, (uint8_t)(i == 6 ? two_of_four : runs_of_four)[k], 1);
            continue;
        }
        size_t from_end = seeds[i].data - k; /* the CT shapes are the last 16 bytes: 2 rows of 64 or 8 columns */
        bool shape = i < 2 && from_end <= 16;
        fuzz_put_int(&b,
                     shape    ? (from_end == 16  ? 2
                                 : from_end == 8 ? (i == 0 ? 64 : 8)
                                                 : 0)
                     : i >= 3 ? (i == 4 && from_end <= 32 && from_end % 4 == 0 && from_end <= 16 ? 1 : 0)
                              : k * 13,
                     1);
    }
    return b.n;
}
