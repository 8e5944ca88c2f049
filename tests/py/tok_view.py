# SPDX-License-Identifier: Apache-2.0
"""A vocabulary written to GGUF means the same: tok_view.py BUILD SHARED [FOLDER ...]

For each tokenizer.json (those tok_hf.py trained, SHARED/models/stories260k, and the folders) the GGUF view is written
with the gguf package, and prose and code are encoded from both. Where a GGUF follows rules of its own (llama.cpp's class
tables, WPM's lack of a word length) the texts keep to what both sides agree on: ASCII and Latin letters.
tok_view.py --llama LLAMA_TOKENIZE BUILD SHARED ... also asks llama.cpp.
"""
import os
import re
import subprocess
import sys

import gguf

import tok_hf

KINDS = ["gpt2", "smollm", "llama3", "qwen2", "qwen35", "tekken", "gpt4o", "deepseek3", "llama2", "bert", "bert_cased"]


def view(dump, path, size):
    out = subprocess.run([dump, path, "gguf", str(size)], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
    head = dict(zip(out[0].split()[::2], out[0].split()[1::2]))
    ids = {k: int(v) for k, v in zip(out[1].split()[::2], out[1].split()[1::2])}
    flags = {k: int(v) for k, v in zip(out[2].split()[::2], out[2].split()[1::2])}
    tokens, types, scores, merges = [], [], [], []
    for line in out[3:]:
        f = line.split()
        if f[0] == "m":
            merges.append(bytes.fromhex(f[1]))
        else:
            types.append(int(f[1]))
            scores.append(float(f[2]))
            tokens.append(bytes.fromhex(f[3]))
    return head, ids, flags, tokens, types, scores, merges


def write(dump, path, size, out):
    head, ids, flags, tokens, types, scores, merges = view(dump, path, size)
    w = gguf.GGUFWriter(out, "bert" if head["model"] == "bert" else "llama")
    w.add_tokenizer_model(head["model"])
    if head["pre"] != "-":
        w.add_tokenizer_pre(head["pre"])
    w.add_token_list(tokens)
    w.add_token_types(types)
    if head["model"] == "llama":
        w.add_token_scores(scores)
    if merges:
        w.add_token_merges([m.decode() for m in merges])
    for key, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("sep", "seperator"), ("pad", "padding"), ("mask", "mask")):
        if ids[key] >= 0:
            w.add_uint32("tokenizer.ggml.%s_token_id" % name, ids[key])
    for key, name in (("add_bos", "add_bos_token"), ("add_eos", "add_eos_token"), ("add_space", "add_space_prefix"),
                      ("lower", "normalizer.lowercase"), ("accents", "normalizer.strip_accents")):
        if flags[key] >= 0:
            w.add_bool("tokenizer.ggml." + name, bool(flags[key]))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    return head


def llama(tool, model, text, folder):
    path = os.path.join(folder, "text")
    open(path, "wb").write(text)
    cmd = [tool, "-m", model, "-f", path, "--ids", "--log-disable", "--no-escape"]
    return eval(subprocess.run(cmd, stdout=subprocess.PIPE, check=True).stdout.decode().strip().splitlines()[-1])


def main():
    args = sys.argv[1:]
    tool = None
    if args[0] == "--llama":
        tool, args = args[1], args[2:]
    build, shared, real = args[0], args[1], args[2:]
    dump, folder = os.path.join(build, "tests/tools/tok_dump"), os.path.join(build, "tokenizers")
    read = lambda f, n: open(os.path.join(shared, "data/text", f), "rb").read()[:n].decode(errors="ignore")
    plain = re.sub(r"[^\x00-\x7fà-öø-ÿ]|\x00", "", read("c4.utf8", 200000) + read("code.utf8", 200000))
    texts = [plain[i:i + 5000] for i in range(0, len(plain), 5000)] + ["", " ", "a b", "\n\n x", "don't 12345"]
    bad = 0
    jobs = [(k, os.path.join(folder, k + ".json")) for k in KINDS]
    jobs += [(os.path.basename(os.path.normpath(r)), r) for r in [os.path.join(shared, "models/stories260k")] + real]
    for name, path in jobs:
        size = int(subprocess.run([dump, path, "size", "-"], stdout=subprocess.PIPE, check=True).stdout)
        out = os.path.join(folder, name + ".gguf")
        head = write(dump, path, size + 3, out)
        part = [re.sub(r"\S{30,}", "", t) for t in texts] if head["model"] == "bert" else texts
        a, b = tok_hf.ours(dump, path, part, 3), tok_hf.ours(dump, out, part, 3)
        wrong = sum(x != y for x, y in zip(a, b))
        same = subprocess.run([dump, path, "differ", out], stdout=subprocess.PIPE).stdout.decode().strip()
        more = ""
        if tool:
            text = "".join(part)[:150000].encode()
            theirs, mine = llama(tool, out, text, folder), tok_hf.ours(dump, out, [text], 3)[0]
            wrong += theirs != mine
            more = ", llama.cpp: %s" % ("same" if theirs == mine else "DIFFERS")
        print("%-14s %-6s %-12s %8d ids, %d texts differ, vocabularies: %s%s" % (name, head["model"], head["pre"], sum(map(len, a)), wrong, same, more))
        bad += wrong + (same != "same")
    print("no differences" if not bad else "%d differences" % bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
