"""Which optimiser moves which weights: AdamW for everything, or Muon for matrices and AdamW for the rest.

Muon (Jordan et al. 2024) makes every update of a matrix orthogonal, so that all directions learn at the same pace; a small U-Net here needs
about half the steps. It is torch's own; a convolution's weight is shown to it as the matrix [C_out, C_in * 9].
"""
import torch
from torch import Tensor, nn

OPTIMIZERS = ("adamw", "muon")


def make_optimizers(model: nn.Module, config) -> list[torch.optim.Optimizer]:
    """The optimisers of a run, which together hold every parameter once.  config: FitConfig."""
    matrices = _matrices(model) if config.optimizer == "muon" else []
    chosen = set(map(id, matrices))
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    adamw = torch.optim.AdamW(rest, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    if not matrices:
        return [adamw]
    return [adamw, FlatMuon(matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")]


def _matrices(model: nn.Module) -> list[Tensor]:
    """The weights of linear layers and convolutions."""
    return [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)) and m.weight.requires_grad]


class FlatMuon(torch.optim.Muon):
    """Muon for weights of any shape: each is shown to it as the matrix [C_out, everything else] in the same memory."""

    def __init__(self, weights: list[Tensor], **options):
        self.weights = weights
        super().__init__([w.detach().view(len(w), -1) for w in weights], **options)

    def take_gradients(self) -> None:
        """Show it the gradients too; after every backward pass, because each may bring new tensors."""
        for weight, matrix in zip(self.weights, self.param_groups[0]["params"]):
            matrix.grad = weight.grad.view_as(matrix)
