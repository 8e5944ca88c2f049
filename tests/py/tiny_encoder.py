# SPDX-License-Identifier: Apache-2.0
"""A sentence encoder small enough to be made by a test."""
import json
import os
import random

import numpy as np
from safetensors.numpy import save_file


def tiny_sentences(n, seed):
    """Sentences of 2 to 11 words out of a few."""
    random.seed(seed)
    words = "a cat dog man plays guitar runs over the hill and sings to two birds while rain falls on 42 green fields".split()
    return [" ".join(random.choices(words, k=random.randint(2, 11))) + "." for _ in range(n)]


def tiny_encoder(dst, seed=5, width=32, letters="abcdefghijklmnopqrstuvwxyz0123456789.,'-%?", heads=2, whole=False):
    """A seeded BERT of two layers with a WordPiece vocabulary of letters; whole: with what sentence-transformers puts beside it."""
    os.mkdir(dst)
    rng = np.random.default_rng(seed)
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + list(letters) + ["##" + c for c in letters]
    v, d, f = len(vocab), width, 2 * width
    r = lambda *shape: (rng.standard_normal(shape) * 0.3).astype(np.float32)
    w = {"embeddings.word_embeddings.weight": r(v, d), "embeddings.position_embeddings.weight": r(128, d),
         "embeddings.token_type_embeddings.weight": r(2, d), "embeddings.LayerNorm.weight": 1 + r(d), "embeddings.LayerNorm.bias": r(d)}
    for i in range(2):
        p = f"encoder.layer.{i}."
        for name, o, n in (("attention.self.query", d, d), ("attention.self.key", d, d), ("attention.self.value", d, d),
                           ("attention.output.dense", d, d), ("intermediate.dense", f, d), ("output.dense", d, f)):
            w[f"{p}{name}.weight"], w[f"{p}{name}.bias"] = r(o, n), r(o)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            w[f"{p}{name}.weight"], w[f"{p}{name}.bias"] = 1 + r(d), r(d)
    if whole:
        w |= {"pooler.dense.weight": r(d, d), "pooler.dense.bias": r(d), "embeddings.position_ids": np.arange(128)[None]}
    save_file(w, f"{dst}/model.safetensors", metadata={"format": "pt"})
    json.dump({"architectures": ["BertModel"], "model_type": "bert", "vocab_size": v, "hidden_size": d, "num_hidden_layers": 2,
               "num_attention_heads": heads, "intermediate_size": f, "max_position_embeddings": 128, "type_vocab_size": 2,
               "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0}, open(f"{dst}/config.json", "w"))
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    t = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocab)}, unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
                                                     special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    t.save(f"{dst}/tokenizer.json")
    json.dump({"tokenizer_class": "BertTokenizer", "do_lower_case": True}, open(f"{dst}/tokenizer_config.json", "w"))
    if whole:
        os.mkdir(f"{dst}/1_Pooling")
        st = "sentence_transformers.models."
        json.dump([{"idx": 0, "name": "0", "path": "", "type": f"{st}Transformer"},
                   {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{st}Pooling"}], open(f"{dst}/modules.json", "w"))
        json.dump({"word_embedding_dimension": d, "pooling_mode_mean_tokens": True}, open(f"{dst}/1_Pooling/config.json", "w"))
    return dst
