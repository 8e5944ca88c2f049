/* SPDX-License-Identifier: Apache-2.0
 *
 * Pre-tokenizers that a GGUF names by a word (tokenizer.ggml.pre), as llama.cpp understands them. It matches most of
 * them over classes, not characters: every code point from 128 on becomes one byte that tells its general category
 * (tok_gguf_bpe.c), and \p{X} means that byte plus X's ASCII members. So the patterns below are over bytes. Those
 * marked wide are over code points; there \s is spelled out, and no class
 * holds white space, which llama.cpp turns into U+000B before it matches. */
#include "formats/tok_internal.h"

#define N          "0-9\xD1"
#define L          "A-Za-z\xD2"
#define P          "!-#%-*,\\-./:;?@\\[-\\]_{}\xD3"
#define M          "\xD4"
#define S          "$+<=>^`|~\xD5"
#define APOS       "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define END        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TAIL       "| ?[^\\s" L N "]+[\\r\\n]*" END
#define TAIL_SLASH "| ?[^\\s" L N "]+[\\r\\n/]*" END
#define WORD       "[^\\r\\n" L N "]?[" L "]+"
#define GPT2       "'s|'t|'re|'ve|'m|'ll|'d| ?[" L "]+| ?[" N "]+| ?[^\\s" L N "]+|\\s+(?!\\S)"
#define UPPER                                                                                                          \
    "[A-Z\xD2"                                                                                                         \
    "]" /* any letter but a-z; non-ASCII letters count as both cases */
#define LOWER                                                                                                          \
    "[a-z\xD2"                                                                                                         \
    "]"
#define CASED_A "[^\\r\\n" L N "]?" UPPER "*" LOWER "+"
#define CASED_B "[^\\r\\n" L N "]?" UPPER "+" LOWER "*"
#define LLAMA3  APOS "|" WORD "|[" N "]{1,3}" TAIL
#define QWEN2   APOS "|" WORD "|[" N "]" TAIL
#define SPACE                                                                                                          \
    "\\x{9}-\\x{d}\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define BLOOM      " ?[^(" SPACE "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
#define IDEOGRAPHS /* U+4E00-9FA5, U+0800-4E00, U+AC00-D7FF */                                                         \
    "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{"    \
    "205e}"                                                                                                            \
    "\\x{2060}-\\x{2fff}\\x{3001}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define KANA "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define PUNCT_WORD                                                                                                     \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n" L P S "]?[" L M "]+| ?[" P S "]+[\\r\\n]*" END
/* The cased scripts, as deepseek-llm lists them. */
#define DEEPSEEK_LETTERS                                                                                               \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"   \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"     \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"       \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{"    \
    "1d9a}"                                                                                                            \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{"     \
    "1f5b}"                                                                                                            \
    "\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{"     \
    "1fcc}"                                                                                                            \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{"     \
    "2107}"                                                                                                            \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}" \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}" \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{"     \
    "a787}"                                                                                                            \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{"    \
    "ff5a}"                                                                                                            \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"        \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

static const tok_pre_kind kinds[] = {
    {"default", false, false, {"[" P "$+<=>^~|]+", GPT2, "[" N "]+", "[0-9][0-9][0-9]"}, {0, 0, 0, 1}},
    {"gpt-2 phi-2 olmo mpt modern-bert exaone4 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum jais "
     "trillion "
     "granite-docling roberta-bpe jina-v1-en jina-v2-code",
     false,
     false,
     {GPT2},
     {0}},
    {"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", false, false, {"[" N "]", GPT2}, {0}},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2 midm-2.0 jina-v5-nano", true, true, {LLAMA3}, {0}},
    {"dbrx smaug-bpe chatglm-bpe", false, false, {LLAMA3}, {0}},
    {"glm4 glm5", true, false, {LLAMA3}, {0}},
    {"qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan grok-2 solar-open kormo f2llmv2", false, false, {QWEN2}, {0}},
    {"qwen35", false, false, {APOS "|[^\\r\\n" L N "]?[" L M "]+|[" N "]| ?[^\\s" L M N "]+[\\r\\n]*" END}, {0}},
    {"tekken", true, true, {CASED_A "|" CASED_B "|[" N "]" TAIL_SLASH}, {0}},
    {"gpt-4o llama4 kanana2 minimax-m2 talkie",
     false,
     false,
     {CASED_A APOS "?|" CASED_B APOS "?|[" N "]{1,3}" TAIL_SLASH},
     {0}},
    {"deepseek-coder",
     false,
     false,
     {"[\\r\\n]", "\\s?[" L "]+", "\\s?[" P "]+", IDEOGRAPHS, "[" N "]"},
     {0, 0, 0, 1, 0}},
    {"deepseek-llm",
     false,
     false,
     {"[\\r\\n]", "[" SPACE "]?[" DEEPSEEK_LETTERS "]+",
      "[" SPACE "]?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3001}\\x{3002}]+",
      "[" SPACE "]+$", IDEOGRAPHS, "[" N "]+"},
     {0, 1, 1, 1, 1, 0}},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4", false, false, {"[" N "]{1,3}", KANA, PUNCT_WORD}, {0, 1, 0}},
    {"falcon", false, false, {"[" P "$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}, {0, 0, 1}},
    {"bloom poro-chat gpt3-finnish", false, false, {BLOOM}, {1}},
    {"viking", false, false, {BLOOM, "[" N "]"}, {1, 0}},
    {"seed-coder", false, false, {APOS "|" WORD "|[" N "]| ?[^\\s" L N "\\r\\n]+" END}, {0}},
    {"bailingmoe bailingmoe2 llada-moe",
     false,
     false,
     {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" WORD "|[" N "]| ?[^\\s" L N
      "]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"},
     {0}},
};

const tok_pre_kind *tok_pre_find(pare_str name) {
    for (size_t i = 0; name.n && i < sizeof kinds / sizeof *kinds; i++)
        for (const char *p = kinds[i].names; *p;) {
            size_t n = strcspn(p, " ");
            if (n == name.n && !memcmp(p, name.p, n)) return &kinds[i];
            p += n + (p[n] == ' ');
        }
    return NULL;
}
