# SPDX-License-Identifier: Apache-2.0
"""Layers packed by the compressed-tensors package itself, read and decoded by pare: equal to the package's dequantize, bit
for bit. usage: peer_ct.py PARE WORKDIR   (needs torch and compressed-tensors; exit 77 without them)"""
import json, os, shutil, subprocess, sys
try:
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    from safetensors.torch import load_file, save_file
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)

pare, work = sys.argv[1:3]
shutil.rmtree(work, ignore_errors=True)
torch.manual_seed(1)
done = 0
for bits in (4, 8):
    for group in (0, 32, 64, 128):
        for sym in (True, False):
            for dtype in (torch.float16, torch.bfloat16):
                n, k = (40, 256) if group else (41, 172)
                groups, half = (k // group if group else 1), 1 << (bits - 1)
                q = torch.randint(-half, half, (n, k), dtype=torch.int8)
                scale = (torch.rand(n, groups) * 0.1 + 1e-3).to(dtype)
                zero = torch.zeros(n, groups, dtype=torch.int8) if sym else torch.randint(-half, half, (n, groups), dtype=torch.int8)
                args = QuantizationArgs(num_bits=bits, type="int", symmetric=sym, strategy="group" if group else "channel", group_size=group or None)
                want = dequantize(q, scale, zero, args, dtype=dtype)
                tensors = {"l.weight_packed": pack_to_int32(q, bits), "l.weight_scale": scale, "l.weight_shape": torch.tensor([n, k])}
                if not sym: tensors["l.weight_zero_point"] = pack_to_int32(zero, bits, packed_dim=0).contiguous()
                src, out = f"{work}/{bits}-{group}-{sym}-{dtype}", f"{work}/out.safetensors"
                os.makedirs(src)
                save_file(tensors, f"{src}/model.safetensors", metadata={"format": "pt"})
                weights = {"num_bits": bits, "type": "int", "symmetric": sym, "strategy": args.strategy, "group_size": args.group_size}
                json.dump({"model_type": "none", "quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
                           "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}}, open(f"{src}/config.json", "w"))
                subprocess.run([pare, "convert", src, "-o", out, "--to", "f32", "--force", "--quiet"], check=True, stdout=subprocess.DEVNULL)
                got = load_file(out)["l.weight"]
                assert got.shape == want.shape and torch.equal(got, want.float()), (bits, group, sym, dtype, (got - want.float()).abs().max())
                done += 1
print(f"{done} layouts of compressed-tensors decoded equal")
