# SPDX-License-Identifier: Apache-2.0
"""GGUF vocabularies against llama.cpp's own tokenizer: tok_llama.py LLAMA_TOKENIZE BUILD SHARED FILE.gguf ...

Each file (llama.cpp's source has some as models/ggml-vocab-*.gguf) on code, a multilingual text, invalid UTF-8 and
control tokens, with and without parsing them. A file of model gpt2 is also tried under every other pre kind.
"""
import os
import random
import subprocess
import sys

import gguf

import tok_hf

PRES = ("default gpt-2 smollm llama-bpe dbrx glm4 qwen2 qwen35 tekken gpt-4o deepseek-coder deepseek-llm deepseek-v3 falcon bloom viking "
        "seed-coder bailingmoe").split()


def theirs(tool, model, text, flags, folder):
    path = os.path.join(folder, "text")
    open(path, "wb").write(text)
    cmd = [tool, "-m", model, "-f", path, "--ids", "--log-disable", "--no-escape"]
    cmd += [] if flags & 1 else ["--no-bos"]
    cmd += [] if flags & 2 else ["--no-parse-special"]
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if r.returncode:
        raise SystemExit("%s: llama-tokenize failed: %s" % (model, r.stderr.decode(errors="replace")[-300:]))
    return eval(r.stdout.decode(errors="replace").strip().splitlines()[-1])


def with_pre(src, dst, pre):
    reader, w = gguf.GGUFReader(src), gguf.GGUFWriter(dst, "llama")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        if key == "tokenizer.ggml.pre":
            w.add_string(key, pre)
        elif field.types[0] == gguf.GGUFValueType.ARRAY:
            w.add_array(key, field.contents())
        else:
            w.add_key_value(key, field.contents(), field.types[0])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def main():
    tool, build, shared, files = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    dump, folder = os.path.join(build, "tests/tools/tok_dump"), os.path.join(build, "tokenizers")
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(7)
    # llama.cpp throws on code points beyond U+10FFFF, so their lead bytes stay out; NUL ends its text
    broken = bytes(rng.choices(range(256), k=3000)) + b"ok \xff\xfe\xc3 \xe4\xb8 \xf0\x9f\x98 \xed\xa0\x80 \xc0\x80 abc\xe2\x96"
    broken = bytes(b for b in broken if b and not 0xF4 <= b < 0xF8)
    texts = {"code": (open(os.path.join(shared, "data/text/code.utf8"), "rb").read()[:150000], (1,)),
             "multilingual": (tok_hf.multilingual(120000, 11).replace("\0", "").encode(), (1,)),
             "invalid": (broken, (1,)),
             "control": (b"<s> a </s>b <unk><|endoftext|> x<|im_start|> <|im_end|>  [CLS] y [MASK]<|eot_id|>\n<fim_prefix>  hi", (3, 2, 1))}
    jobs, bpe = list(files), None
    for f in files:
        if gguf.GGUFReader(f).fields["tokenizer.ggml.model"].contents() == "gpt2" and "tokenizer.ggml.pre" in gguf.GGUFReader(f).fields:
            bpe = bpe if bpe and os.path.getsize(bpe) <= os.path.getsize(f) else f
    for pre in PRES if bpe else []:
        path = os.path.join(folder, "pre-%s.gguf" % pre)
        with_pre(bpe, path, pre)
        jobs.append(path)
    bad = 0
    for f in jobs:
        result = []
        for kind, (text, all_flags) in texts.items():
            for flags in all_flags:
                want, got = theirs(tool, f, text, flags, folder), tok_hf.ours(dump, f, [text], flags)[0]
                bad += want != got
                result.append("%s %s" % (kind, len(want) if want == got else "DIFFERS"))
        print("%-34s %s" % (os.path.basename(f), ", ".join(result)))
    print("no differences" if not bad else "%d differences" % bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
