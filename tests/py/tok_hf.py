# SPDX-License-Identifier: Apache-2.0
"""Our tokenizers against the `tokenizers` package, id for id and text for text.

tok_hf.py BUILD SHARED [FOLDER ...]: for each pre-tokenizer a small vocabulary is trained by the package on
SHARED/data/text (kept in BUILD/tokenizers), then prose, code and a made-up multilingual text, 1 MB each, are encoded by
both. Real tokenizers: SHARED/models/stories260k and the folders given.
"""
import json
import os
import random
import struct
import subprocess
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CASED_A = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
CASED_B = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
TEKKEN = CASED_A + "|" + CASED_B + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
S_ = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O = CASED_A + S_ + "|" + CASED_B + S_ + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^""" + "\r\n" + r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["""
             + "\r\n" + r"]*|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+")

# Blocks that were complete before Unicode 14, so that no side's tables are too old to know them.
BLOCKS = [(0x20, 0x7E), (0xA1, 0x17F), (0x370, 0x373), (0x391, 0x3A1), (0x3A3, 0x3FF), (0x400, 0x4FF), (0x531, 0x556), (0x5D0, 0x5EA),
          (0x591, 0x5C7), (0x620, 0x66F), (0x6F0, 0x6FF), (0x905, 0x939), (0x93E, 0x94D), (0x966, 0x96F), (0x985, 0x98C), (0x9BE, 0x9C4),
          (0xB85, 0xB8A), (0xBBE, 0xBC2), (0xE01, 0xE3A), (0xE40, 0xE4E), (0x1780, 0x17B3), (0x17B6, 0x17D3), (0x10D0, 0x10F0),
          (0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0xAC00, 0xD7A3), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5),
          (0x3400, 0x4DB5), (0x20000, 0x2A6D6), (0xF900, 0xFA2D), (0x300, 0x36F), (0x1E00, 0x1EFF), (0x1F00, 0x1F15), (0x2000, 0x200F),
          (0x2010, 0x2064), (0x20A0, 0x20BF), (0x2100, 0x214F), (0x2150, 0x218B), (0x2190, 0x23FA), (0x2460, 0x24FF), (0x2600, 0x27BF),
          (0x3000, 0x303F), (0xFB00, 0xFB06), (0xFE00, 0xFE0F), (0xFF01, 0xFF5E), (0x1D400, 0x1D433), (0x1F300, 0x1F64F),
          (0x1F680, 0x1F6D2), (0x1F900, 0x1F93E), (0x1F1E6, 0x1F1FF), (0x13A0, 0x13F5), (0x1F88, 0x1FAF), (0xE000, 0xE010)]
PHRASES = ["The quick brown fox, isn't it? We'LL see; they'Ve gone 1234567 times.", "İstanbul'da ışık ve ĞÜŞ", "Straße groß ǅ ǈ ﬁ ﬂ ſ 'ſ 'S",
           "السلام عليكم ورحمة الله وبركاته ١٢٣", "שָׁלוֹם עולם", "नमस्ते दुनिया, क्या हाल है? १२३", "สวัสดีชาวโลก ทำอะไรอยู่", "안녕하세요 세계 한글 각",
           "你好，世界！今天天氣很好。", "こんにちは世界、カタカナ ﾊﾝｶｸ", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇺🇸🇩🇪 ❤️‍🔥", "e\u0301 a\u0308\u0304 q\u0323\u0307 \u0f71\u0f72", "\u202Eright\u202C \u200Fto left",
           "a\u00a0b\u2003c\u3000d\u0085e\u200be\u180ef", "\t\ttabs \r\n\r\n  lines \n \n", "x\x00y\x01z\x7f\x0b\x0c", "Привет, как дела? Ёжик", "Ελληνικά ΟΔΟΣ ς",
           "½ ² ³ ① Ⅷ ٣ 一二三 𝟘𝟙", "~`^$+<=>| !!! ??? ... --- ///\n", "<s> </s> <unk> [CLS] [MASK] <|endoftext|> <0x41>", "हिन्दी" * 9, "     ", " \u0301 ", "᠎"]


def multilingual(n_bytes, seed):
    rng, out, size = random.Random(seed), [], 0
    while size < n_bytes:
        k = rng.random()
        if k < 0.4:
            s = rng.choice(PHRASES)
        elif k < 0.8:  # words of one script
            a, b = rng.choice(BLOCKS)
            s = " ".join("".join(chr(rng.randint(a, b)) for _ in range(rng.randint(1, 9))) for _ in range(rng.randint(1, 9)))
        else:  # anything beside anything
            s = "".join(chr(rng.randint(*rng.choice(BLOCKS))) for _ in range(rng.randint(1, 30)))
        s += rng.choice([" ", "", "\n", ". ", "\n\n", "  ", "\u3000"])
        out.append(s)
        size += len(s.encode())
    return "".join(out)


def chunks(text, seed):
    """Uneven pieces, so that starts and ends are tried too; one of them long."""
    rng, at, out = random.Random(seed), 0, []
    while at < len(text):
        n = rng.choice([0, 1, 7, 80, 500, 3000, 20000])
        out.append(text[at:at + n])
        at += n
    return out


def ours(dump, path, texts, flags):
    inp = b"".join(struct.pack("<I", len(t)) + t for t in (x if isinstance(x, bytes) else x.encode() for x in texts))
    out = subprocess.run([dump, path, "encode", str(flags)], input=inp, stdout=subprocess.PIPE, check=True).stdout
    ids, at = [], 0
    for _ in texts:
        n = struct.unpack_from("<I", out, at)[0]
        ids.append(list(struct.unpack_from("<%di" % n, out, at + 4)))
        at += 4 + 4 * n
    return ids


def ours_text(dump, path, lists):
    inp = b"".join(struct.pack("<I%di" % len(x), len(x), *x) for x in lists)
    out = subprocess.run([dump, path, "decode", "0"], input=inp, stdout=subprocess.PIPE, check=True).stdout
    texts, at = [], 0
    for _ in lists:
        n = struct.unpack_from("<I", out, at)[0]
        texts.append(out[at + 4:at + 4 + n])
        at += 4 + n
    return texts


def show(text, a, b, tok):
    k = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
    print("  first difference at id %d: ours %s theirs %s in %r" % (k, [tok.id_to_token(i) for i in a[max(0, k - 3):k + 5]],
                                                                     [tok.id_to_token(i) for i in b[max(0, k - 3):k + 5]], text[:80]))


def compare(name, dump, path, texts):
    tok = Tokenizer.from_file(path if path.endswith(".json") else os.path.join(path, "tokenizer.json"))
    tok.no_truncation()
    tok.no_padding()
    bad = total = 0
    for flags in (3, 2, 0):
        tok.encode_special_tokens = flags == 0
        part = texts if flags == 3 else texts[::7]
        theirs = [e.ids for e in tok.encode_batch(part, add_special_tokens=bool(flags & 1))]
        mine = ours(dump, path, part, flags)
        for t, a, b in zip(part, mine, theirs):
            total += len(b)
            if a != b:
                bad += 1
                if bad <= 3:
                    show(t, a, b, tok)
    mine = ours(dump, path, texts, 3)
    said = 0
    if path.endswith(".json") and "BPEDecoder" in open(path).read():
        mine = []  # its last token alone loses the space; one cannot know which is last while streaming
    for ids, b in zip(mine, ours_text(dump, path, mine)):
        want = tok.decode(ids, skip_special_tokens=True)
        try:
            got = b.decode()
        except UnicodeDecodeError:  # bytes that are no character: theirs become U+FFFD, ours stay bytes
            continue
        if got != want and "\ufffd" not in want:
            said += 1
            if said <= 2:
                k = next((i for i in range(min(len(got), len(want))) if got[i] != want[i]), 0)
                print("  text differs: ours %r theirs %r" % (got[max(0, k - 20):k + 20], want[max(0, k - 20):k + 20]))
    print("%-26s %8d ids, %d texts differ, %d decoded texts differ" % (name, total, bad, said))
    return bad + said


def train(name, tok, trainer, files, folder):
    path = os.path.join(folder, name + ".json")
    if not os.path.exists(path):
        tok.train(files, trainer)
        tok.save(path)
    return path


def bpe(pre, norm=None, dec=None, bytes_alphabet=True, post=None, size=2500, specials=("<unk>", "<s>", "</s>"), added=(), **kw):
    model = {k: v for k, v in kw.items() if k in ("unk_token", "byte_fallback", "fuse_unk", "ignore_merges", "continuing_subword_prefix",
                                                  "end_of_word_suffix")}
    tok = Tokenizer(models.BPE(**model))
    if pre is not None:
        tok.pre_tokenizer = pre
    if norm is not None:
        tok.normalizer = norm
    if dec is not None:
        tok.decoder = dec
    if post is not None:
        tok.post_processor = post
    tr = {k: v for k, v in kw.items() if k in ("continuing_subword_prefix", "end_of_word_suffix")}
    alphabet = pre_tokenizers.ByteLevel.alphabet() if bytes_alphabet else []
    specials = list(specials) + (["<0x%02X>" % b for b in range(256)] if kw.get("byte_fallback") else [])
    return tok, trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False,
                                    limit_alphabet=400, **tr)


def finish(path, edit):
    """Edits the saved JSON in place, once."""
    d = json.load(open(path))
    if edit(d):
        json.dump(d, open(path, "w"), ensure_ascii=False)


def seq(*p):
    return pre_tokenizers.Sequence(list(p))


def split(regex, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(regex), behavior, invert)


def cases(folder, files):
    B = lambda **k: pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **k})
    raw = B(use_regex=False)
    byte = decoders.ByteLevel()
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    meta = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    N, P = normalizers, pre_tokenizers
    spec = {
        "gpt2": bpe(B(), dec=byte),
        "gpt2_prefix": bpe(B(add_prefix_space=True), dec=byte, post=processors.RobertaProcessing(("</s>", 2), ("<s>", 1))),
        "smollm": bpe(seq(P.Digits(individual_digits=True), B()), dec=byte),
        "llama3": bpe(seq(split(LLAMA3), raw), dec=byte, post=template, ignore_merges=True),
        "qwen2": bpe(seq(split(QWEN2), raw), norm=N.NFC(), dec=byte),
        "qwen35": bpe(seq(split(QWEN35), raw), norm=N.NFC(), dec=byte),
        "tekken": bpe(seq(split(TEKKEN), raw), dec=byte, ignore_merges=True),
        "gpt4o": bpe(seq(split(GPT4O), raw), dec=byte),
        "falcon": bpe(seq(P.Punctuation("contiguous"), B(), P.Digits(), split("[0-9][0-9][0-9]")), dec=byte),
        "deepseek3": bpe(seq(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
                             split(DEEPSEEK3), raw), dec=byte),
        "llama2": bpe(None, norm=N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), dec=meta, bytes_alphabet=False, post=template,
                      byte_fallback=True, fuse_unk=True, unk_token="<unk>", size=1500),
        "metaspace_first": bpe(P.Metaspace("▁", "first"), dec=decoders.Metaspace("▁", "first"), bytes_alphabet=False, unk_token="<unk>",
                               fuse_unk=True),
        "metaspace_always": bpe(P.Metaspace("▁", "always", split=False), dec=decoders.Metaspace("▁", "always"), bytes_alphabet=False,
                                unk_token="<unk>", size=1500),
        "metaspace_never": bpe(P.Metaspace("_", "never"), norm=N.NFKC(), dec=decoders.Metaspace("_", "never"), bytes_alphabet=False,
                               unk_token="<unk>"),
        "words_suffix": bpe(P.Whitespace(), norm=N.Sequence([N.NFD(), N.Lowercase(), N.StripAccents()]), dec=decoders.BPEDecoder("</w>"),
                            bytes_alphabet=False, unk_token="<unk>", end_of_word_suffix="</w>"),
        "spaces_prefix": bpe(P.WhitespaceSplit(), norm=N.Sequence([N.Strip(True, False), N.NFKD()]), bytes_alphabet=False,
                             unk_token="<unk>", continuing_subword_prefix="##"),
        "fallback_words": bpe(seq(P.WhitespaceSplit(), P.Punctuation("merged_with_previous")), bytes_alphabet=False, byte_fallback=True,
                              unk_token="<unk>", norm=N.Replace(Regex(r"\s+"), " ")),
    }
    for i, b in enumerate(("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous")):
        spec["split_" + b] = bpe(seq(split(r"[aeiou]|\w\d|\s", b), raw), dec=byte, size=600)
        spec["split_not_" + b] = bpe(seq(split(r"\w+", b, True), raw), dec=byte, size=600)
        spec["string_" + b] = bpe(seq(P.Split(" ", b), P.Punctuation(b), raw), dec=byte, size=600)
    for name, (tok, trainer) in spec.items():
        yield name, train(name, tok, trainer, files, folder)
    for name, kw in {"bert": {}, "bert_cased": dict(lowercase=False), "bert_accents": dict(lowercase=True, strip_accents=False),
                     "bert_plain": dict(clean_text=False, handle_chinese_chars=False, lowercase=False, strip_accents=True)}.items():
        tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=30))
        tok.normalizer, tok.pre_tokenizer, tok.decoder = N.BertNormalizer(**kw), P.BertPreTokenizer(), decoders.WordPiece()
        tok.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        yield name, train(name, tok, trainers.WordPieceTrainer(vocab_size=2500, show_progress=False, limit_alphabet=600,
                                                               special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]), files, folder)
    # added tokens of every kind on top of one trained vocabulary
    path = os.path.join(folder, "added.json")
    if not os.path.exists(path):
        tok = Tokenizer.from_file(os.path.join(folder, "gpt2.json"))
        tok.normalizer = normalizers.Lowercase()
        tok.add_special_tokens([AddedToken("<|im_start|>", lstrip=True, rstrip=True), AddedToken("<|im_end|>"), AddedToken("[MASK]", lstrip=True)])
        tok.add_tokens([AddedToken("lines", single_word=True), AddedToken("lin", normalized=True), AddedToken("Brown FOX", normalized=True),
                        AddedToken("  ", normalized=False), AddedToken("हि", single_word=True), AddedToken("12", rstrip=True)])
        tok.save(path)
    yield "added", path


def main():
    build, shared, real = sys.argv[1], sys.argv[2], sys.argv[3:]
    dump, folder = os.path.join(build, "tests/tools/tok_dump"), os.path.join(build, "tokenizers")
    os.makedirs(folder, exist_ok=True)
    data = os.path.join(shared, "data/text")
    train_file = os.path.join(folder, "train.txt")
    read = lambda f, n: open(os.path.join(data, f), "rb").read()[:n].decode(errors="ignore")
    if not os.path.exists(train_file):
        with open(train_file, "w") as f:
            f.write(read("wiki.utf8", 300000) + read("code.utf8", 150000) + multilingual(60000, 1))
    long = os.environ.get("LONG")
    n = 1 << 19 if long else 1 << 16
    texts = (chunks(read("c4.utf8", n), 1) + chunks(read("code.utf8", n), 2) + chunks(multilingual(n, 3), 3) + PHRASES
             + ["", " ", "a", "\n", "\x00", "<s>", " <s>", "▁", "a" * 5000, "ab " * 2000, "\u0301" * 3000, " " * 3000, "hello<s>world</s> x"])
    whole = [read("c4.utf8", 1 << 20), read("code.utf8", 1 << 20), multilingual(1 << 20, 4)]
    bad = 0
    for r in [os.path.join(shared, "models/stories260k")] + real:
        bad += compare(os.path.basename(r.rstrip("/")), dump, r, texts + whole)
    for name, path in cases(folder, [train_file]):
        bad += compare(name, dump, path, texts)
    print("no differences" if not bad else "%d differences" % bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
