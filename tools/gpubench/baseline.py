"""Times Stable Diffusion's networks in PyTorch, eagerly, for comparison.

    python3 baseline.py --checkpoint FILE [--device cuda] [--dtype float16] CASE…

A CASE is SIZE:STEPS:BATCH, such as 512:20:1. The networks are plain modules with
scaled_dot_product_attention, in the shapes of the checkpoint: a file in the layout of Stable
Diffusion 1.5 or XL, whose names they must all have. Each case samples with Euler's method and
classifier-free guidance (a batch of two per picture), then decodes; the loop stays on the device.
One JSON object per case goes to standard output.
"""

import argparse
import json
import math
import time

import torch
import torch.nn.functional as F
from torch import nn


class Res(nn.Module):
    """Residual block of the denoiser."""

    def __init__(self, cin, cout, emb):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, cin), nn.SiLU(), nn.Conv2d(cin, cout, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, cout))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, cout), nn.SiLU(), nn.Identity(), nn.Conv2d(cout, cout, 3, padding=1))
        self.skip_connection = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x, emb, _):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x, context):
        split = lambda t: t.unflatten(2, (self.heads, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context)))
        return self.to_out(y.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Linear(width, 8 * width)

    def forward(self, x):
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class Layer(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1, self.attn2 = Attention(width, width, heads), Attention(width, context, heads)
        self.ff = nn.ModuleDict({"net": nn.Sequential(GEGLU(width), nn.Identity(), nn.Linear(4 * width, width))})

    def forward(self, x, context):
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff["net"](self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, width, context, heads, depth, linear):
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        make = (lambda: nn.Linear(width, width)) if linear else (lambda: nn.Conv2d(width, width, 1))
        self.proj_in, self.proj_out = make(), make()
        self.transformer_blocks = nn.ModuleList(Layer(width, context, heads) for _ in range(depth))

    def forward(self, x, _, context):
        h, tokens = self.norm(x), lambda t: t.flatten(2).transpose(1, 2)
        h = self.proj_in(tokens(h)) if self.linear else tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            h = block(h, context)
        picture = lambda t: t.transpose(1, 2).unflatten(2, x.shape[2:])
        return x + (picture(self.proj_out(h)) if self.linear else self.proj_out(picture(h)))


class Down(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x, *_):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x, *_):
        return self.conv(F.interpolate(x, scale_factor=2))


class First(nn.Conv2d):
    def forward(self, x, *_):
        return super().forward(x)


class UNet(nn.Module):
    """depths are those of the transformers by level; vector is the width of the input y, 0 for none."""

    def __init__(self, depths, multiples, context, vector, head_width, heads, linear, base=320):
        super().__init__()
        self.base, emb = base, 4 * base
        embed = lambda n: nn.Sequential(nn.Linear(n, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.time_embed = embed(base)
        if vector:
            self.label_emb = nn.ModuleList([embed(vector)])

        def transformer(width, depth):
            return Transformer(width, context, heads or width // head_width, depth, linear)

        width, widths = base, [base]
        self.input_blocks = nn.ModuleList([nn.ModuleList([First(4, base, 3, padding=1)])])
        for level, multiple in enumerate(multiples):
            for _ in range(2):
                block = [Res(width, base * multiple, emb)]
                width = base * multiple
                if depths[level]:
                    block.append(transformer(width, depths[level]))
                self.input_blocks.append(nn.ModuleList(block))
                widths.append(width)
            if level + 1 < len(multiples):
                self.input_blocks.append(nn.ModuleList([Down(width)]))
                widths.append(width)
        self.middle_block = nn.ModuleList([Res(width, width, emb), transformer(width, max(depths[-1], 1)), Res(width, width, emb)])
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(multiples))):
            for i in range(3):
                block = [Res(width + widths.pop(), base * multiples[level], emb)]
                width = base * multiples[level]
                if depths[level]:
                    block.append(transformer(width, depths[level]))
                if level and i == 2:
                    block.append(Up(width))
                self.output_blocks.append(nn.ModuleList(block))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, 4, 3, padding=1))

    def forward(self, x, t, context, y):
        freqs = torch.exp(-math.log(10000) * torch.arange(self.base // 2, device=x.device) / (self.base // 2))
        angles = t[:, None].float() * freqs
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1).to(x.dtype))
        if y is not None:
            emb = emb + self.label_emb[0](y)

        def apply(block, h):
            for layer in block:
                h = layer(h, emb, context) if isinstance(layer, Transformer) else layer(h, emb, None)
            return h

        saved = []
        for block in self.input_blocks:
            x = apply(block, x)
            saved.append(x)
        x = apply(self.middle_block, x)
        for block in self.output_blocks:
            x = apply(block, torch.cat([x, saved.pop()], 1))
        return self.out(x)


class VAERes(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, cin, eps=1e-6), nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(32, cout, eps=1e-6), nn.Conv2d(cout, cout, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class VAEAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        tokens = lambda t: t.flatten(2).transpose(1, 2)[:, None]
        y = F.scaled_dot_product_attention(tokens(self.q(h)), tokens(self.k(h)), tokens(self.v(h)))
        return x + self.proj_out(y[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))


class Decoder(nn.Module):
    def __init__(self, base=128, multiples=(1, 2, 4, 4)):
        super().__init__()
        width = base * multiples[-1]
        self.post_quant_conv = nn.Conv2d(4, 4, 1)
        d = self.decoder = nn.Module()
        d.conv_in = nn.Conv2d(4, width, 3, padding=1)
        d.mid = nn.Module()
        d.mid.block_1, d.mid.attn_1, d.mid.block_2 = VAERes(width, width), VAEAttention(width), VAERes(width, width)
        ups = []
        for level in reversed(range(len(multiples))):
            up = nn.Module()
            up.block = nn.ModuleList()
            for _ in range(3):
                up.block.append(VAERes(width, base * multiples[level]))
                width = base * multiples[level]
            if level:
                up.upsample = Up(width)
            ups.insert(0, up)
        d.up = nn.ModuleList(ups)
        d.norm_out, d.conv_out = nn.GroupNorm(32, width, eps=1e-6), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z):
        d = self.decoder
        h = d.mid.block_2(d.mid.attn_1(d.mid.block_1(d.conv_in(self.post_quant_conv(z)))))
        for up in reversed(d.up):
            for block in up.block:
                h = block(h)
            if hasattr(up, "upsample"):
                h = up.upsample(h)
        return d.conv_out(F.silu(d.norm_out(h)))


def load(module, tensors, prefix, without=()):
    """Fills a module from the checkpoint; names must agree in both directions, but for those left out."""
    own = {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}
    module.load_state_dict({name: t for name, t in own.items() if not name.startswith(without)}, strict=True)
    return module.eval()


def networks(path, dtype, device):
    from safetensors.torch import load_file

    tensors = load_file(path)
    prefix = "model.diffusion_model."
    xl = prefix + "label_emb.0.0.weight" in tensors
    if xl:
        unet = UNet((0, 2, 10), (1, 2, 4), 2048, 2816, 64, None, True)
    else:
        unet = UNet((1, 1, 1, 0), (1, 2, 4, 4), 768, 0, None, 8, False)
    unet = load(unet, tensors, prefix).to(device=device, dtype=dtype)
    decoder = load(Decoder(), tensors, "first_stage_model.", ("encoder.", "quant_conv.")).to(device=device)
    return unet, decoder.float(), xl


def sample(unet, x, sigmas, context, y, cfg=7.0):
    """Euler's method over eps predictions, in the state's own precision."""
    n = len(x)
    for now, then in zip(sigmas[:-1], sigmas[1:]):
        scaled = x * (now * now + 1).rsqrt()
        t = torch.full((2 * n,), 500.0, device=x.device)
        eps = unet(torch.cat([scaled, scaled]).to(context.dtype), t, context, y).float()
        eps = eps[n:] + cfg * (eps[:n] - eps[n:])
        x = x + eps * (then - now)
    return x


def timed(device, run):
    """Returns the result and the seconds it took, the device's work included."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    wait()
    began = time.perf_counter()
    out = run()
    wait()
    return out, time.perf_counter() - began


@torch.inference_mode()
def measure(nets, case, rounds, device, dtype):
    unet, decoder, xl = nets
    size, steps, batch = (int(n) for n in case.split(":"))
    make = lambda *shape: torch.randn(*shape, device=device)
    x, context = make(batch, 4, size // 8, size // 8), make(2 * batch, 77, 2048 if xl else 768).to(dtype)
    y = make(2 * batch, 2816).to(dtype) if xl else None
    sigmas = torch.linspace(14.6, 0, steps + 1, device=device)
    run = lambda: sample(unet, 14.6 * x, sigmas, context, y)
    latent, first = timed(device, run)
    latent = torch.nan_to_num(latent)
    decode = lambda: [decoder(z[None].float() / 0.18215) for z in latent]
    timed(device, decode)
    sampling = sorted(timed(device, run)[1] for _ in range(rounds))
    decoding = sorted(timed(device, decode)[1] for _ in range(rounds))
    out = {"engine": "torch " + torch.__version__, "model": "sdxl" if xl else "sd15", "size": size, "steps": steps, "batch": batch,
           "first_s": first, "sample_s": sampling[len(sampling) // 2], "decode_s": decoding[len(decoding) // 2], "best_s": sampling[0]}
    if device.startswith("cuda"):
        out["peak_bytes"] = torch.cuda.max_memory_allocated()
        out["device"] = torch.cuda.get_device_name()
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--device", default="cuda")
    p.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("case", nargs="+", metavar="CASE")
    a = p.parse_args()
    dtype = getattr(torch, a.dtype)
    began = time.perf_counter()
    nets = networks(a.checkpoint, dtype, a.device)
    loaded = time.perf_counter() - began
    for case in a.case:
        print(json.dumps(measure(nets, case, a.rounds, a.device, dtype) | {"load_s": loaded}), flush=True)


if __name__ == "__main__":
    main()
