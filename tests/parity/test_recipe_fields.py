"""Recipe fields that no family uses yet, on a model that does: GPT-J, its recipe written out."""

import torch
from transformers import GPTJConfig, GPTJForCausalLM

from paged_steps import PagedModel
from quire.kernels.select import torch_ops
from quire.models.decoder import Decoder
from quire.models.families.names import Names, weight_map
from quire.models.recipe import (
    AttentionRecipe,
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    RopeRecipe,
    SublayerRecipe,
    WeightMap,
)
from tiny_models import randomize

E, H, LAYERS, VOCAB = 48, 3, 2, 131
NORM = NormRecipe("layer", 1e-5, bias=True)


NAMES = Names(
    base="transformer",
    embedding="wte",
    layers="h",
    qkv=("attn.q_proj", "attn.k_proj", "attn.v_proj"),
    out="attn.out_proj",
    up=("mlp.fc_in",),
    down="mlp.fc_out",
    norms={"attention_norm": "ln_1"},
    final_norm="ln_f",
)


def recipe() -> Recipe:
    rope = RopeRecipe("default", 10000.0, rotary_dim=8, max_position=64, interleaved=True)
    attention = AttentionRecipe(H, H, E // H, scale=(E // H) ** -0.5, rope=rope)
    mlp = MlpRecipe(100, "gelu_tanh", gated=False, bias=True)
    layer = LayerRecipe(
        attention, SublayerRecipe(NORM), mlp, SublayerRecipe(NORM), parallel=True, shared_norm=True
    )
    return Recipe(
        "GPTJForCausalLM",
        VOCAB,
        E,
        64,
        EmbeddingRecipe(E),
        (layer,) * LAYERS,
        NORM,
        HeadRecipe(tied=False, bias=True),
        WeightMap({}),
    )


def test_interleaved_rope_shared_norm_and_head_bias(fill_decoder) -> None:
    config = GPTJConfig(
        vocab_size=VOCAB,
        n_embd=E,
        n_head=H,
        n_layer=LAYERS,
        n_positions=64,
        n_inner=100,
        rotary_dim=8,
        bos_token_id=0,
        eos_token_id=1,
        attn_implementation="eager",
    )
    reference = GPTJForCausalLM(config).eval()
    randomize(reference, 0)
    model = Decoder(recipe(), torch_ops("a test"), torch.float32, torch.device("cpu"), 64)
    fill_decoder(model, weight_map(recipe(), NAMES), reference.state_dict())
    ids = list(range(3, 40))
    with torch.inference_mode():
        theirs = reference(torch.tensor([ids])).logits[0]
    paged = PagedModel(model, max_len=64)
    ours = torch.cat([paged.step([(1, ids[:30])])[0], paged.step([(1, ids[30:])])[0]])
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()
