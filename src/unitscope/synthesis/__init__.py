"""Optimal stimuli: objective x start x canvas x jitters x ascent, many at a time, exact, at any position.

How `maximize.maximize` works:

    objectives.py         what is raised: neurons, units, weighted sums of these
    evaluators.py         the response of an objective, on the smallest part of the picture that does: on its cone
                          (cone_rules.py, cones.py, cone_evaluation.py, single_channels.py), an aligned crop, or all
    recipes.py            how it is raised: a start and a canvas (canvases.py), jitters.py, and an ascent (ascents.py)
    optimize.py           the search, in batches of all objectives and seeds whose evaluators are alike
    evaluate.py           how good the results are

and apart from it, a study of the positions of one unit: position_study.py, transfer.py, position_similarity.py,
position_figures.py. Results are `unitscope.optima.Optima`, which need no torch.

To build on it: `make_evaluator(cache_of(network), objective, post_activation=False, half=False)` gives an `Evaluator`;
its `evaluate(x, channels, weights)` takes whitened pictures of `evaluator.box`, and has gradients. `Scene.whiten` and
`Scene.color` change between RGB and what the module is shown. Neurons at other positions are just other objectives:
`maximize(network, ["layer1.2.relu_1:18@5,5", "layer1.2.relu_1:18@0,0"], seeds=3)`.
"""
