# SPDX-License-Identifier: Apache-2.0
"""pare inspect on models of known and unknown architecture, and on files that are no models.
usage: inspect_cli.py PARE WORKDIR"""
import json, os, shutil, subprocess, sys
import gguf
import numpy as np
from safetensors.numpy import save_file

pare, work = sys.argv[1:3]
shutil.rmtree(work, ignore_errors=True)
os.makedirs(f"{work}/folder")


def run(*argv, want=0):
    r = subprocess.run([pare, "inspect", *argv], capture_output=True, text=True)
    assert r.returncode == want, (argv, r.returncode, r.stdout, r.stderr)
    return r.stderr if want else r.stdout


w = gguf.GGUFWriter(f"{work}/odd.gguf", "strange")
w.add_uint32("strange.block_count", 7)
w.add_array("a.list", [1, 2, 3])
w.add_string("esc", "a\x1b[31mred\n")
w.add_tensor("big.weight", np.zeros((64, 18), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
w.add_tensor("rare.weight", np.zeros((2, 66), np.uint8), raw_dtype=gguf.GGMLQuantizationType.IQ2_XXS)
w.add_tensor("norm", np.ones(32, np.float32))
w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
text = run(f"{work}/odd.gguf", "--meta", "--tensors")
for part in ("strange", "cannot be run", "layers", "q4_0", "iq2_xxs", "big.weight", "[64, 32]", "1152", "3 x i32: [1, 2, 3]", "a\\x1b[31mred\\n"):
    assert part in text, (part, text)
assert "\x1b" not in text
info = json.loads(run(f"{work}/odd.gguf", "--json", "-"))
assert info["params"] == 64 * 32 + 32 and info["n_tensors"] == 3 and info["facts"]["layers"] == "7", info
assert [t["name"] for t in info["tensors"]] == ["big.weight", "rare.weight", "norm"] and info["tensors"][0]["shape"] == [64, 32]
assert info["weight_bytes"] == 64 * 18 + 2 * 66 + 128

save_file({"a.weight": np.zeros((4, 8), np.float16), "n": np.zeros(3, np.int64)}, f"{work}/folder/model.safetensors")
json.dump({"model_type": "other", "n_layer": 3, "text_config": {"hidden_size": 8}}, open(f"{work}/folder/config.json", "w"))
text = run(f"{work}/folder", "--json", f"{work}/out.json")
for part in ("folder", "other", "layers", "hidden size", "32", "f16", "i64"): assert part in text, (part, text)
assert json.load(open(f"{work}/out.json"))["params"] == 32
assert "config.n_layer" in run(f"{work}/folder", "-m")
assert "safetensors" in run(f"{work}/folder/model.safetensors", "--tensors")

assert "cpu:" in run("--devices") and "examples" in run("--help")
assert "which model" in run(want=2)
assert "did you mean --tensors" in run("--tensor", f"{work}/odd.gguf", want=2)
assert "No such file" in run(f"{work}/none", want=3)
open(f"{work}/text.txt", "w").write("hello")
assert "not a model" in run(f"{work}/text.txt", want=3)
data = open(f"{work}/odd.gguf", "rb").read()
open(f"{work}/cut.gguf", "wb").write(data[:-200])
error = run(f"{work}/cut.gguf", want=3)
assert "cut.gguf" in error and "beyond the end" in error, error
assert "cannot be written" in run(f"{work}/odd.gguf", "--json", f"{work}/no/such", want=4)
print("inspect: all as expected")
