"""The sizes that every config states, by Llama's names or the family's own words for them."""

from quire.models.families.reader import Reader
from quire.models.recipe import AttentionRecipe, RopeRecipe


class Sizes:
    """The numbers that give every tensor of the trunk its shape, as a config has them.

    The arguments are the family's defaults, None where a value must be given (the number of KV
    heads then defaults to that of the heads, the head's to E / H).
    """

    def __init__(
        self,
        read: Reader,
        *,
        vocab: int | None = None,
        num_heads: int | None = None,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        max_position: int = 2048,
    ) -> None:
        self.hidden = hidden = read.integer("hidden_size")
        self.num_heads = heads = read.integer("num_attention_heads", num_heads)
        self.num_kv_heads = read.integer("num_key_value_heads", num_kv_heads or heads)
        if heads % self.num_kv_heads:
            raise read.fail(
                f"'num_attention_heads' ({heads}) is not a multiple of "
                f"'num_key_value_heads' ({self.num_kv_heads})"
            )
        if head_dim is None and not read.has("head_dim") and hidden % heads:
            raise read.fail(
                f"'{read.word('hidden_size')}' ({hidden}) is not a multiple of "
                f"'{read.word('num_attention_heads')}' ({heads})"
            )
        self.head_dim = read.integer("head_dim", head_dim or hidden // heads)
        self.vocab = read.integer("vocab_size", vocab)
        self.num_layers = read.integer("num_hidden_layers")
        self.max_position = read.integer("max_position_embeddings", max_position)

    def attention(
        self, rope: RopeRecipe | None, *, window: int | None = None, bias: bool = False
    ) -> AttentionRecipe:
        """Attention with the usual scale; `bias` is on all four projections."""
        return AttentionRecipe(
            self.num_heads,
            self.num_kv_heads,
            self.head_dim,
            scale=self.head_dim**-0.5,
            window=window,
            rope=rope,
            qkv_bias=bias,
            out_bias=bias,
        )
