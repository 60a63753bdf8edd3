"""The ledger of equation ids. A tag in code (`# DDPM Eq. 4`), a `\\tag{DDPM 4}` in a lesson and a test all mean one of these.

A number stands only where the paper prints it; the rest has a name. What an id means is said in one line, in the package's letters.
"""
LEDGER = {
    # Ho, Jain, Abbeel 2020, Denoising Diffusion Probabilistic Models
    "DDPM Eq. 2": "q(x_t | x_{t-1}), the forward chain",
    "DDPM Eq. 4": "q(x_t | x_0), any step at once",
    "DDPM Eq. 5": "the bound as L_T + sum of L_{t-1} + L_0",
    "DDPM Eq. 6": "q(x_{t-1} | x_t, x_0) is a Gaussian",
    "DDPM Eq. 7": "its mean and variance",
    "DDPM Eq. 8": "L_{t-1} as a distance between means",
    "DDPM Eq. 11": "the mean from a prediction of eps",
    "DDPM Eq. 12": "L_{t-1} in eps, with its weight",
    "DDPM Eq. 13": "p(x_0 | x_1), the discretised Gaussian",
    "DDPM Eq. 14": "L_simple",
    "DDPM Eq. 15": "x_0 from x_t and eps",
    "DDPM Algorithm 1": "training",
    "DDPM Algorithm 2": "sampling",
    # Song, Meng, Ermon 2021, Denoising Diffusion Implicit Models
    "DDIM Eq. 12": "one step: predicted x_0, direction to x_t, fresh noise",
    "DDIM Eq. 16": "the amount of fresh noise, by eta",
    # Nichol, Dhariwal 2021, Improved Denoising Diffusion Probabilistic Models
    "iDDPM Eq. 15": "the variance, interpolated between its bounds in logs",
    "iDDPM Eq. 16": "L_hybrid = L_simple + lambda L_vlb",
    "iDDPM Eq. 17": "the cosine schedule",
    "iDDPM importance sampling": "t drawn in proportion to sqrt(E[L_t^2])",
    "iDDPM respacing": "betas of a sub-sequence of times",
    # One idea each, known by its name
    "v-prediction": "v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans, Ho 2022, appendix D)",
    "Rectified flow": "x_t on the straight line from data to noise, and its velocity eps - x_0 (Liu, Gong, Liu 2023)",
    "min-SNR": "weight min(snr, gamma) on the loss in x_0 (Hang et al. 2023)",
    "P2": "weight 1 / (k + snr)^gamma on the loss in eps (Choi et al. 2022)",
    "DPM-Solver++ Algorithm 2": "the second-order multistep solver, 2M (Lu et al. 2022)",
    "CFG Eq. 6": "(1 + w) eps_c - w eps_0, and guidance_scale = 1 + w (Ho, Salimans 2022)",
    "GLIDE guidance": "eps_0 + s (eps_c - eps_0), with s = guidance_scale (Nichol et al. 2022)",
    "GLIDE CLIP guidance": "the noise minus sqrt(1 - alpha_bar) s times the gradient of a score of x_t (Nichol et al. 2022)",
    "Imagen dynamic thresholding": "clip x_0 to the s-th percentile and divide by it (Saharia et al. 2022, appendix)",
    "Imagen noise conditioning augmentation": "the small picture, enlarged, is diffused by a known amount that the network is told (Saharia et al. 2022, appendix)",
    "Imagen skip scaling": "shortcuts are multiplied by 1 / sqrt(2) (Saharia et al. 2022, Appendix B)",
    # van den Oord, Vinyals, Kavukcuoglu 2017, Neural Discrete Representation Learning; Esser, Rombach, Ommer 2021, Taming Transformers
    "VQ-VAE loss": "||sg(z) - e||^2 + beta ||z - sg(e)||^2, beside the error of the picture",
    "VQ-VAE moving averages": "a code as the mean of what takes it, sums and counts forgetting at one pace (appendix A.1)",
    "straight-through": "forward e, backward z",
    "Gumbel-softmax": "softmax((logits + Gumbel noise) / temperature) (Jang, Gu, Poole 2017)",
    "VQGAN adaptive weight": "|gradient of the error| / |gradient of the discriminator's mark| at the decoder's last layer",
    # Gu et al. 2022, Vector Quantized Diffusion Model; Tang et al. 2022, Improved Vector Quantized Diffusion Models
    "VQ-Diffusion Eq. 4": "q(x_t | x_0), the product of all steps",
    "VQ-Diffusion Eq. 5": "q(x_s | x_t, x_0) by Bayes",
    "VQ-Diffusion mask-and-replace matrix": "stay with alpha + beta, become another code with beta, be masked with gamma; a mask stays",
    "VQ-Diffusion x0 reparameterisation": "p(x_s | x_t) = sum over x_0 of q(x_s | x_t, x_0) p(x_0 | x_t)",
    "VQ-Diffusion bound": "KL(q(x_s | x_t, x_0) || p(x_s | x_t)), summed over a token's states",
    "VQ-Diffusion auxiliary loss": "lambda times -log p(x_0 | x_t), beside the bound",
    "VQ-Diffusion truncation": "each token among its likeliest codes, up to a share r",
    "Improved VQ-Diffusion learnable guidance": "a learned \"no caption\" to push away from",
    "Improved VQ-Diffusion high-quality inference": "as many masks left at s as the schedule says, exactly, however small a step",
    "Improved VQ-Diffusion purity prior": "masks shown in proportion to max p, codes drawn from p^(1 + r max p)",
}
