"""Optimal stimuli: objective x start x canvas x jitters x ascent, many at a time, exact, at any position.

`maximize.maximize` is the deed. It understands what is to be raised (`objectives`), finds how that is heard on the
smallest part of the picture that will do (`preparations`: a cone of the network's own `circuits`, else an aligned crop,
else the whole picture), and lets `recipes` climb on `canvases` under `jitters` by `ascents`, in batches of all
objectives and seeds whose cones are alike. Results are `unitscope.optima.Optima`, which need no torch.

To build on it: `subject_of(network)` and `prepare(subject, objective, after=..., half=...)` give a `Preparation` whose
`hear(x, channels, weights)` answers for prepared pictures of `preparation.box`, with gradients;
`scene.whiten`/`scene.color` and `Optimum.light` change between RGB and what the module is shown. Neurons at other
positions are just other objectives: `maximize(network, ["layer1.2.relu_1:18@5,5", "layer1.2.relu_1:18@0,0"], seeds=3)`.
"""
