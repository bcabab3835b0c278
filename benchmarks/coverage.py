"""How far the fields of every network of a zoo are known: all sites of every torchvision classifier and of the smallest
model of every timm module, with random weights.

    python benchmarks/coverage.py RESULTS.jsonl                          what is not in RESULTS yet is run
    python benchmarks/coverage.py RESULTS.jsonl --only 'timm:conv*'      some of it
    python benchmarks/coverage.py RESULTS.jsonl --page docs/reference/coverage.md

Each model runs in a process of its own, under a limit of memory and of time, on one thread. Seconds are processor time
of that thread; a pass shows one picture. Names are compared with torchvision's by value: torchvision's own trace of the
module is run, and a node counts as found where a site of that name has the same value.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import math
import multiprocessing
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from survey import allow_torchvision, peak

STATUSES = ("exact", "whole image", "upper bound", "unknown")
Facts = dict[str, Any]


def main() -> None:
    arguments = parse()
    found = results(arguments)
    print(table(found))
    if arguments.page:
        arguments.page.write_text(page(found), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a JSON-lines file, continued where it exists")
    parser.add_argument("--only", default="*", help="models to run, as a pattern of LIBRARY:NAME")
    parser.add_argument("--memory", type=float, default=12, help="GB that a model may take")
    parser.add_argument("--seconds", type=float, default=600, help="time that a model may take")
    parser.add_argument("--page", type=Path, help="a page to write")
    return parser.parse_args()


def results(arguments: argparse.Namespace) -> list[Facts]:
    """The facts of each model, those at hand and new ones, in the order of the zoo."""
    known = [json.loads(line) for line in lines_of(arguments.results)]
    families: dict[str, str] = next((facts["zoo"] for facts in known if "zoo" in facts), {})
    with arguments.results.open("a", encoding="utf-8") as file:
        if not families:
            families = zoo()
            print(json.dumps({"zoo": families}), file=file, flush=True)
        have = {facts["model"]: facts for facts in known if "model" in facts}
        for model, family in families.items():
            if model not in have and fnmatch.fnmatch(model, arguments.only):
                facts = apart(model, memory=arguments.memory, seconds=arguments.seconds)
                have[model] = {"model": model, "family": family, **facts}
                print(json.dumps(have[model]), file=file, flush=True)
                print(brief(have[model]), flush=True)
    return [have[model] for model in families if model in have]


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def apart(model: str, *, memory: float, seconds: float) -> Facts:
    """What is found of a model in a process of its own; {"failure": why} where there is nothing."""
    load_libraries()  # once for all processes
    forked = multiprocessing.get_context("fork")
    receiver, sender = forked.Pipe(duplex=False)
    process = forked.Process(target=tell, args=(sender, model, memory))
    process.start()
    sender.close()
    try:
        facts = receiver.recv() if receiver.poll(seconds) else {"failure": f"more than {seconds:g} s"}
    except EOFError:
        facts = {"failure": "the process ended"}
    process.kill()
    process.join()
    return facts


def tell(sender: Any, model: str, memory: float) -> None:
    """In a process of its own: examine a model under a limit of memory, in GB."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory * 2**30),) * 2)
    try:
        sender.send(examined(model))
    except Exception as error:  # it is told, and the next model has its turn
        sender.send({"failure": f"{type(error).__name__}: {error}".splitlines()[0]})


def load_libraries() -> None:
    import torch

    torch.set_num_threads(1)
    allow_torchvision()
    import timm
    import torchvision

    assert timm
    assert torchvision


# which models


def zoo() -> dict[str, str]:
    """The family of each model: every classifier of torchvision, the smallest model of every module of timm."""
    load_libraries()
    import timm
    from torchvision import models

    found = {}
    for name in models.list_models(module=models):
        found[f"torchvision:{name}"] = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
    for module in timm.list_modules():
        sizes = {name: parameters(name) for name in timm.list_models(module=module)}
        if sizes:
            found[f"timm:{min(sizes, key=lambda name: (sizes[name], name))}"] = module
    return found


def parameters(name: str) -> int:
    """How many parameters a model of timm has; nothing is stored for them."""
    import timm
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


# one model


def examined(model: str) -> Facts:
    """What is known of one model's sites, and what it costs to know it."""
    import torch

    import unitscope
    from unitscope.anatomy.sites import sites

    network = unitscope.load(model)
    picture = torch.rand(1, network.inputs, *network.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        forward = min(timed(lambda: network.module(picture))[0] for _ in range(2))
    before = peak()
    seconds, found = timed(lambda: sites(network))
    more = peak() - before
    counts = Counter(worst(site.fields) for site in found.values())
    causes = Counter(
        f"{field.status}: {field.cause}" for site in found.values() for field in {*site.fields} if field.cause
    )
    return {
        "sites": {status: counts[status] for status in STATUSES},
        "units": sum(site.channels for site in found.values()),
        "causes": dict(causes.most_common()),
        "forward": forward,
        "seconds": seconds,
        "memory": peak(),
        "more": more,
        "names": names(network.module, picture),
    }


def timed(what: Any) -> tuple[float, Any]:
    start = time.thread_time()
    result = what()
    return time.thread_time() - start, result


def worst(fields: Any) -> str:
    return max((field.status for field in fields), key=STATUSES.index)


def names(module: Any, picture: Any) -> Facts:
    """Values under torchvision's names: `nodes` of them that hold numbers, and those that no site of ours has."""
    import torch
    from torch import fx

    from unitscope.anatomy.value_hooks import hook_values

    ours: dict[str, tuple[Any, float]] = {}
    with torch.no_grad(), hook_values(module, lambda name, value: ours.setdefault(name, digest(value)) and None):
        module(picture)
    theirs: dict[str, tuple[Any, float]] = {}
    try:
        graph, called = traced(module)
    except Exception as error:  # whatever keeps torch.fx from it
        return {"nodes": 0, "why": f"{type(error).__name__}: {error}".splitlines()[0][:120], "heard": len(ours)}

    class Reading(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            result = super().run_node(node)
            if isinstance(result, torch.Tensor) and node.op not in ("placeholder", "output", "get_attr"):
                theirs[called[node]] = digest(result)
            return result

    with torch.no_grad():
        Reading(graph).run(picture)
    return {
        "nodes": len(theirs),
        "absent": [name for name in theirs if name not in ours],
        "different": [name for name in theirs if name in ours and not alike(ours[name], theirs[name])],
        "own": [name for name in ours if name not in theirs],
        "heard": len(ours),
    }


def digest(value: Any) -> tuple[tuple[int, ...], float]:
    """The shape of a value and the sum of its magnitudes."""
    return tuple(value.shape), value.detach().double().abs().sum().item() if value.dtype.is_floating_point else 0.0


def alike(one: tuple[Any, float], other: tuple[Any, float]) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or math.isclose(one[1], other[1], rel_tol=1e-3))


def traced(module: Any) -> tuple[Any, dict[Any, str]]:
    """torchvision's trace of a module, and what it calls each node."""
    from torch import fx
    from torchvision.models.feature_extraction import NodePathTracer, _set_default_tracer_kwargs

    tracer = NodePathTracer(**_set_default_tracer_kwargs(None))
    graph = tracer.trace(module)
    return fx.GraphModule(tracer.root, graph), tracer.node_to_qualname


# tables


def brief(facts: Facts) -> str:
    if "failure" in facts:
        return f"{facts['model']:<44} FAILED: {facts['failure']}"
    counts = " ".join(f"{facts['sites'][status]:>6}" for status in STATUSES)
    named = facts["names"]
    apart = len(named.get("absent", [])) + len(named.get("different", []))
    said = f"{named['nodes'] - apart}/{named['nodes']}" if named["nodes"] else "-"
    return (
        f"{facts['model']:<44}{counts} {facts['seconds']:>8.2f} s {facts['seconds'] / facts['forward']:>7.1f} x"
        f" {facts['more'] / 2**30:>6.2f} GB {said:>10}"
    )


COLUMNS = ("family", "models", *STATUSES, "seconds", "over a pass", "more memory", "names")


def rows(found: list[Facts]) -> Iterator[tuple[str, ...]]:
    """A row per family: sites by status, and the largest time, ratio and memory of its models."""
    families: dict[tuple[str, str], list[Facts]] = defaultdict(list)
    for facts in found:
        families[facts["model"].partition(":")[0], facts["family"]].append(facts)
    for (library, family), members in families.items():
        yield row(f"{library} {family}", members)
    yield row("all", found)


def row(name: str, members: list[Facts]) -> tuple[str, ...]:
    good = [facts for facts in members if "failure" not in facts]
    if not good:
        return (name, str(len(members)), *("failed",) * (len(COLUMNS) - 2))
    counts = [sum(facts["sites"][status] for facts in good) for status in STATUSES]
    return (
        name,
        str(len(good)),
        *map(str, counts),
        f"{max(facts['seconds'] for facts in good):.1f}",
        f"{max(facts['seconds'] / facts['forward'] for facts in good):.1f}",
        f"{max(facts['more'] for facts in good) / 2**30:.2f} GB",
        named(good),
    )


def named(members: list[Facts]) -> str:
    """How many of torchvision's nodes are sites of ours with the same value; "-" where it traces none of the models."""
    nodes = sum(facts["names"]["nodes"] for facts in members)
    apart = sum(len(facts["names"].get(kind, ())) for facts in members for kind in ("absent", "different"))
    return f"{nodes - apart} of {nodes}" if nodes else "-"


def table(found: list[Facts]) -> str:
    lines = [COLUMNS, *rows(found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cells(line, widths)) for line in lines)


def cells(line: tuple[str, ...], widths: list[int]) -> list[str]:
    return [f"{line[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))]


# the page

PAGE = """# Coverage of fields

Written by `python benchmarks/coverage.py RESULTS.jsonl --page docs/reference/coverage.md`: every classifier of
torchvision and the smallest model of every module of timm, {models} models, with random weights, at the size that each
is made for.

What is known of the fields of their {sites} sites ([what the words mean](../concepts/receptive-fields.md)):

{statuses}

`exact` and `whole image` are both exact. Where channels of a site differ, the site counts as the least known of its
channels. For every upper bound the cause is named:

{causes}

## By family

Sites by status; the largest processor time of finding all fields, in seconds on one thread and over one forward pass
of one picture; the largest memory that it took beyond what the pass had taken; and how many nodes of torchvision's own
trace that hold a tensor are sites here, of the same name and the same value ("-" where torch.fx traces none of the
models).

{families}

## Costly models

{costly}
{failures}"""


def page(found: list[Facts]) -> str:
    good = [facts for facts in found if "failure" not in facts]
    counts = {status: sum(facts["sites"][status] for facts in good) for status in STATUSES}
    full = {status: sum(facts["sites"][status] > 0 for facts in good) for status in STATUSES}
    causes: Counter[str] = Counter()
    for facts in good:
        causes.update(dict.fromkeys((c for c in facts["causes"] if c.startswith(("upper", "unknown"))), 1))
    costly = sorted(good, key=lambda facts: -facts["seconds"])[:12]
    failures = [f"* `{facts['model']}`: {facts['failure']}" for facts in found if "failure" in facts]
    return PAGE.format(
        models=len(found),
        sites=f"{sum(counts.values()):,}",
        statuses=markdown(
            ("status", "sites", "models that have such sites"), [(s, f"{counts[s]:,}", str(full[s])) for s in STATUSES]
        ),
        causes=markdown(("cause", "models"), [(cause, str(count)) for cause, count in causes.most_common()]),
        families=markdown(COLUMNS, list(rows(found))),
        costly=markdown(
            ("model", "sites", "seconds", "over a pass", "more memory", "memory in all"),
            [
                (
                    f"`{facts['model']}`",
                    str(sum(facts["sites"].values())),
                    f"{facts['seconds']:.1f}",
                    f"{facts['seconds'] / facts['forward']:.1f}",
                    f"{facts['more'] / 2**30:.2f} GB",
                    f"{facts['memory'] / 2**30:.2f} GB",
                )
                for facts in costly
            ],
        ),
        failures="\n## Failures\n\n" + "\n".join(failures) + "\n" if failures else "",
    )


def markdown(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rule = ("---", *("---:",) * (len(head) - 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
