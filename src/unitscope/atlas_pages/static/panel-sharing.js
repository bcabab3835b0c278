// Shared channels: one channel through the layers of its stage, a row per network, one above the other.
"use strict";

Panels.add("sharing", {
  across(views) {
    const { el, number, root, tile } = Atlas;
    if (!views.length) return null;

    function picture(view, site, kind, words) {
      const sprite = site.sprites[kind];
      if (!sprite) return null;
      const node = el("span", { class: "picture", role: "img", "aria-label": `${words}, ${site.name}`, title: words });
      tile(node, sprite, view.channel, view.home);
      return node;
    }

    /** How alike the channel is to itself in the layer before. */
    function link(view, steps, channels) {
      const said = steps.map(({ what, same, rank, mostSimilar }) => {
        const value = same[view.channel];
        if (value === null) return el("span", { class: "absent", title: `${what}: fewer than 30 stimuli` }, "–");
        const found = rank[view.channel] === 1;
        const most = found ? "no other channel is as similar" : `most similar: channel ${mostSimilar[view.channel]}`;
        return el(
          "span",
          { class: found ? "found" : null, title: `${what}: similarity ${number(value)}; rank ${number(rank[view.channel])} of ${channels}; ${most}` },
          el("strong", {}, number(value)),
          el("small", {}, `${what}, rank ${number(rank[view.channel])}`),
        );
      });
      return el("li", { class: "link" }, said);
    }

    function row(view) {
      const { sites, steps, channels } = view.data.panels.sharing;
      const here = view.one === Atlas.record;
      const cells = sites.flatMap((site, place) => [
        place ? link(view, steps[place - 1], channels) : null,
        el(
          "li",
          { class: "place" },
          el(
            "a",
            { href: `${root}${view.one.slug}/${site.slug}.html#${view.channel}`, "aria-label": `${site.name}:${view.channel}` },
            el("span", { class: "pair" }, picture(view, site, "mean", "mean preferred stimulus, contrast"), picture(view, site, "best", "best patch")),
            el("span", { class: "name" }, site.name),
          ),
        ),
      ]);
      return el("div", { class: `stage-row${here ? " here" : ""}` }, el("h4", {}, view.one.title), el("ol", {}, cells));
    }

    return el(
      "section",
      { class: "sharing" },
      el("h3", {}, `Channel ${views[0].channel} through its stage`, el("small", {}, "does it stay itself? between the layers: its similarity to itself, and the rank of that among all channels (1: it is found again)")),
      views.map(row),
    );
  },
});
