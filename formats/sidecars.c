/* SPDX-License-Identifier: Apache-2.0
 *
 * The names come from what transformers, tokenizers and sentence-transformers save. Files that describe how weights are
 * stored (quantize_config.json) are left out on purpose: they would be wrong beside other weights. */
#include "formats/sidecars.h"

#include <string.h>

static const char *const names[] = {"tokenizer.json",
                                    "tokenizer_config.json",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "vocab.txt",
                                    "vocab.json",
                                    "merges.txt",
                                    "tokenizer.model",
                                    "spiece.model",
                                    "sentencepiece.bpe.model",
                                    "generation_config.json",
                                    "chat_template.jinja",
                                    "chat_template.json",
                                    "preprocessor_config.json",
                                    "processor_config.json",
                                    "modules.json",
                                    "sentence_bert_config.json",
                                    "config_sentence_transformers.json",
                                    "sentence_distilbert_config.json",
                                    "README.md",
                                    "model_card.md",
                                    "NOTICE",
                                    "NOTICE.txt",
                                    "USE_POLICY.md",
                                    "data_config.json",
                                    NULL};

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcmp(s + n - k, tail) == 0;
}

bool pare_sidecar_known(const char *name) {
    for (int i = 0; names[i]; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return strncmp(name, "LICENSE", 7) == 0 || strncmp(name, "LICENCE", 7) == 0 || strncmp(name, "COPYING", 7) == 0;
}

bool pare_sidecar_folder(const char *name) {
    size_t i = 0;
    while (name[i] >= '0' && name[i] <= '9') i++;
    if (i == 0 || name[i] != '_' || !name[i + 1]) return false;
    for (i++; name[i]; i++)
        if (!((name[i] | 32) >= 'a' && (name[i] | 32) <= 'z')) return false;
    return true;
}

bool pare_weights_name(const char *name) { return ends(name, ".safetensors") || ends(name, ".safetensors.index.json"); }
