"""What is said of an answer, from one tensor to a whole training.

- `tensor`: one tensor, held against its truth and its budget;
- `answer`: every tensor of an answer to one record; `combined`: what an engine's answers to parts of a batch make up;
- `lockstep`: every update of a training, each from the engine's own weights; `free_run`: the weights it reaches alone;
- `diagnosis`: what a failing answer looks like (`known_mistakes`, `relations` to the truth, `narrower_formats`);
- `score`: how well all this sees each known mistake.

`evaluation` computes every budget; `recomputed` asks refnet again, rightly and with each known mistake.
"""
