"""`quire show-model`: a checkpoint's recipe, printed so that it reads as a model."""

import click

from quire.core.config import BOXED_MODEL, ModelConfig


@click.command(name="show-model", short_help="Print how a model is built, layer by layer.")
@click.argument("model", default=BOXED_MODEL, metavar="[MODEL]")
@click.option("--revision", help="Branch, tag or commit of a Hub model.")
@click.option("--download-dir", help="Where Hub files are kept.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the checkpoint.")
def command(
    model: str, revision: str | None, download_dir: str | None, trust_remote_code: bool
) -> None:
    """Print how MODEL is built: its layers, norms, attention, parameters.

    Only its small files are read, not the weights.

    \b
    quire show-model
    quire show-model google/gemma-2-2b-it
    """
    from quire.models.recipe import Recipe
    from quire.models.show import show
    from quire.weights.build import model_recipe
    from quire.weights.hf_config import read_hf_config
    from quire.weights.source import ModelSource, fetch_small_files

    config = ModelConfig(
        model=model,
        revision=revision,
        download_dir=download_dir,
        trust_remote_code=trust_remote_code,
    )
    directory = fetch_small_files(ModelSource.of_model(config))
    recipe = model_recipe(config, directory, read_hf_config(directory).config)
    if isinstance(recipe, Recipe):
        click.echo(show(recipe).rstrip())
        return
    click.echo(
        f"{recipe.architecture}: {recipe.num_parameters / 1e6:,.2f}M parameters, {recipe.dtype}\n"
        f"hidden size {recipe.hidden_size}, {len(recipe.layers)} layers, "
        f"vocabulary {recipe.vocab_size}, up to {recipe.max_position} tokens\n\n"
        "no recipe: transformers' own modules, with paged attention"
    )
    for group in recipe.kv_groups():
        kind = "full attention" if group.window is None else f"window of {group.window}"
        click.echo(f"KV cache: {kind}, {len(group.layers)} layers")
