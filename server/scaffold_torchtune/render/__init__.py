"""Step 5: render the text of each run's setup_finetune.yaml and read it back. Nothing is written here."""

from scaffold_torchtune.render.renderer import Rendered, render_run

__all__ = ["Rendered", "render_run"]
