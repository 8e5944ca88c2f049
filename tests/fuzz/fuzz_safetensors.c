/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a safetensors file. */
#include "fuzz_source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fuzz_open(fuzz_file(data, n));
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) {
    static const char *const headers[] =
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2,4],\"data_offsets\":[0,16]}}",
         "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
         "{\"s\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],"
         "\"data_offsets\":[8,8]},\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[8,16]}}",
         "{\"caf\\u00e9\":{\"dtype\":\"F8_E8M0\",\"shape\":[1,1,16],\"data_offsets\":[0,16]}}",
         "{\"q\":{\"dtype\":\"F4\",\"shape\":[4,8],\"data_offsets\":[0,16]}}",
         "{\"w\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]},\"v\":{\"dtype\":\"U8\",\"shape\":[13],"
         "\"data_offsets\":[3,16]}}"};
    fuzz_buf b = {buf, 0, cap};
    if (i >= sizeof headers / sizeof *headers) return 0;
    fuzz_put_int(&b, strlen(headers[i]), 8);
    fuzz_put_text(&b, headers[i]);
    for (int k = 0; k < 16; k++) fuzz_put_int(&b, (uint64_t)k * 17, 1);
    return b.n;
}
