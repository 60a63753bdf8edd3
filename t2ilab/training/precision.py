"""Precision: the number format in which a device computes fast.

bfloat16 is fast only where the hardware has units for it; elsewhere it is emulated, up to 20 times
slower.
"""
import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def has_bf16(device: torch.device) -> bool:
    """Does this device multiply bfloat16 in hardware?

    GPUs from capability 8.0 on, and CPUs with AVX512-BF16 unless ATEN_CPU_CAPABILITY or
    ONEDNN_MAX_CPU_ISA allows less.  Not asked of MPS, which computes in float32 here."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # torch's own kernels
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    # oneDNN, which multiplies matrices, says what it may use; torch.cpu what the processor could do
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype for autocast.  precision: auto, fp32, bf16 or fp16.

    auto: bf16 where the hardware has it (a T4 only emulates it, slowly), else fp16 on a GPU, else
    fp32."""
    if precision != "auto":
        return DTYPES[precision]
    if has_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32
