// Optimal stimuli, beside the photographs' patches: of neurons and tiled, both poles, all seeds, with their scores.
"use strict";

(() => {
  const { el, number, tile } = Atlas;

  const PLACES = { center: "center neuron", all: "all positions" };
  const placed = (group) => PLACES[group.at] ?? `neuron ${group.at}`;
  const NATURAL = 3;

  /** The key of a group's way of showing a sheet; as optima.way_of has it. */
  const key = (group) => `optima-${group.set}-${group.at}`.replaceAll(/[^\w]+/g, "-");

  function ways(data) {
    const several = new Set(data.groups.map((group) => group.recipe)).size > 1;
    return data.groups.map((group) => {
      const words = [group.pole === "preferred" ? "optimal" : "optimal, least", group.at === "center" ? null : group.at === "all" ? "tiled" : `at ${group.at}`, several ? group.recipe : null];
      const meaning = `Each unit by two pictures: left the photograph's patch that drew its ${group.pole === "preferred" ? "highest" : "lowest"} response, right the picture synthesized for it (${placed(group)}, recipe ${group.recipe}).`;
      return [key(group), words.filter(Boolean).join(", "), group.pairs, meaning];
    });
  }

  /** One synthesized picture with its response. */
  function synthesized(group, channel, seed, home) {
    const node = el("span", { class: "picture", role: "img", "aria-label": `optimal stimulus ${seed + 1}: response ${number(group.responses[channel][seed])}` });
    tile(node, group.pictures, channel * group.seeds + seed, home);
    const moved = group.moved[channel][seed];
    return el(
      "li",
      { class: seed === group.best[channel] && group.seeds > 1 ? "best" : null },
      el("span", { class: "cell" }, node),
      el("span", { class: "value" }, moved ? number(group.responses[channel][seed]) : "did not move"),
    );
  }

  const LABELS = { response: "optimal", natural: "best patch", mean_stimulus: "mean stimulus", noise: "noise", exact: "exact optimum" };

  /** What the best one and its rivals draw at equal contrast: dots on a line that begins at the blank picture. */
  function scores(found) {
    if (!found) return null;
    const known = Object.keys(LABELS).filter((name) => found[name] !== undefined);
    const values = [...known.map((name) => found[name]), found.blank ?? 0];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const x = (value) => 4 + (192 * (value - low)) / (high - low || 1);
    return el(
      "div",
      { class: "optima-scores" },
      el(
        "svg",
        { viewBox: "0 0 200 14", role: "img", "aria-label": known.map((name) => `${LABELS[name]} ${number(found[name])}`).join(", ") },
        el("path", { class: "axis", d: `M4 7H196M${x(found.blank ?? 0)} 2v10` }),
        known.map((name) => el("circle", { class: name, cx: x(found[name]), cy: 7, r: name === "response" ? 4 : 3 })),
      ),
      el("dl", {}, known.map((name) => el("div", { class: name }, el("dt", {}, LABELS[name]), el("dd", {}, number(found[name]))))),
      el("p", {}, `at equal contrast (${number(found.contrast)}); the mark is the blank picture`),
    );
  }

  function row(group, channel, view) {
    const natural = view.data.stimuli[group.pole][channel].slice(0, NATURAL);
    if (group.responses[channel] === null || !natural.length) return null;
    return el(
      "div",
      { class: `optima-row${group.at === "all" ? " tiled" : ""}` },
      el("h4", {}, group.pole, el("small", {}, `${placed(group)}, ${group.recipe}, ${group.reads}`)),
      el("ol", { class: "natural", "aria-label": "photographs" }, natural.map((stimulus) => el("li", {}, el("span", { class: "cell" }, view.cut(stimulus)), el("span", { class: "value" }, number(stimulus[3]))))),
      el("ol", { class: "made", "aria-label": "synthesized" }, group.responses[channel].map((_, seed) => synthesized(group, channel, seed, view.home))),
      scores(group.scores[channel]),
    );
  }

  function unit(data, channel, view) {
    const rows = ["preferred", "antipreferred"].flatMap((pole) => data.groups.filter((group) => group.pole === pole).map((group) => row(group, channel, view))).filter(Boolean);
    if (!rows.length) return null;
    return el("section", { class: "optima" }, el("h3", {}, "Optimal stimuli", el("small", {}, "left the photographs' patches, right the pictures synthesized for this unit, one per seed")), rows);
  }

  Panels.add("optima", { unit, ways });
})();
