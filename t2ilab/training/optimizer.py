"""Optimisers: AdamW for every weight, or Muon for matrices and AdamW for the rest.

Muon (Jordan et al. 2024) makes every update of a matrix orthogonal, so that all directions learn at
the same pace; a small U-Net here needs about half the steps. It moves weights as torch.optim.Muon
does, but that one orthogonalises in bfloat16 whatever the hardware, 20 times slower on a CPU
without bf16 units. A convolution's weight is shown to it as the matrix [C_out, C_in * 9].
"""
import math

import torch
from torch import Tensor, nn

from .precision import has_bf16

OPTIMIZERS = ("adamw", "muon")
MOMENTUM = 0.95


def make_optimizers(model: nn.Module, config) -> list[torch.optim.Optimizer]:
    """The optimisers of a run, which together hold every parameter once.  config: FitConfig."""
    matrices = _matrices(model) if config.optimizer == "muon" else []
    chosen = set(map(id, matrices))
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    adamw = torch.optim.AdamW(rest, lr=config.lr, betas=config.betas,
                              weight_decay=config.weight_decay, fused=True)
    if not matrices:
        return [adamw]
    return [adamw, FlatMuon(matrices, lr=config.lr, weight_decay=config.weight_decay)]


def _matrices(model: nn.Module) -> list[Tensor]:
    """The weights of linear layers and convolutions."""
    weights = (m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    return [weight for weight in weights if weight.requires_grad]


def orthogonalize(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """U V^T of a matrix U S V^T [m n], roughly: singular values become 0.7 to 1.2.

    Those near 0 stay small.  Five Newton-Schulz steps X <- a X + (b S + c S S) X, S = X X^T
    (Jordan et al. 2024).  dtype: to compute in."""
    x = matrix.to(dtype)
    x = x.mT if len(x) > x.shape[1] else x                  # the smaller S
    x = x / x.norm().clamp(min=1e-7)                        # a gradient of zeros stays zero
    if dtype == torch.float32 and x.shape[1] >= 2 * len(x):
        x = _all_steps(x @ x.mT) @ x                        # less than half the work
    else:
        for _ in range(5):
            s = x @ x.mT
            polynomial = torch.addmm(s, s, s, beta=-4.7750, alpha=2.0315)
            x = torch.addmm(x, polynomial, x, beta=3.4445)
    return x.mT if len(matrix) > matrix.shape[1] else x


def _all_steps(s: Tensor) -> Tensor:
    """The matrix [m m] by which five Newton-Schulz steps multiply a wide X, from S = X X^T [m m].

    A step is X <- P X with P = a I + b S + c S S, so S <- P S P: X itself is not needed.  It wants
    float32, because S has the squares of X's singular values."""
    product = torch.eye(len(s), device=s.device)
    for _ in range(5):
        p = torch.addmm(s, s, s, beta=-4.7750, alpha=2.0315)
        p.diagonal().add_(3.4445)
        product, s = p @ product, p @ s @ p
    return product


class FlatMuon(torch.optim.Optimizer):
    """Muon for weights of any shape.

    Each is shown to it as the matrix [C_out, everything else] in the same memory. Its state is a
    float32 momentum_buffer of the matrix's shape for each, as torch.optim.Muon's is."""

    def __init__(self, weights: list[Tensor], *, lr: float, weight_decay: float = 0.0):
        self.weights = weights
        matrices = [w.detach().view(len(w), -1) for w in weights]
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    def take_gradients(self) -> None:
        """Show it the gradients too.

        After every backward pass, because each may bring new tensors."""
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"]):
            matrix.grad = None if weight.grad is None else weight.grad.view_as(matrix)

    @torch.no_grad()
    def step(self) -> None:
        """Move every matrix that has a gradient by the orthogonalised mean of its gradients.

        Of about the size of an AdamW step (Liu et al. 2025)."""
        group = self.param_groups[0]
        lr, weight_decay = group["lr"], group["weight_decay"]
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
            # float32 on every CPU; where there are bf16 units it costs a step of the laptop
            # presets 0 to 4 % more.
            fast = matrix.is_cuda and has_bf16(matrix.device)
            dtype = torch.bfloat16 if fast else torch.float32
            update = orthogonalize(matrix.grad.lerp(mean, MOMENTUM), dtype)     # Nesterov
            size = 0.2 * math.sqrt(max(matrix.shape)) * lr
            matrix.mul_(1 - lr * weight_decay).add_(update, alpha=-size)
