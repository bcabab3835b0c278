// Virtual filters of a unit, beside the filters that they are made of, the most strongly coupled first.
"use strict";

(() => {
  const { el, number, tile } = Atlas;

  const places = (data) => data.map((one) => one.filters.files[0].match(/-(\d+)-virtual-\d+\.webp$/)[1]);

  function ways(data) {
    const numbers = places(data);
    return data.map((one, i) => [
      `virtual-${numbers[i]}`,
      data.length > 1 ? `virtual filter (${one.site})` : "virtual filter",
      one.filters,
      `Virtual filters of ${one.site} through ${one.chain.join(" > ")}, around middle gray; contrast × ${number(one.filters.gain)} for all units alike.`,
    ]);
  }

  function picture(sprite, i, home, words) {
    const node = el("span", { class: "picture", role: "img", "aria-label": words });
    tile(node, sprite, i, home);
    return node;
  }

  function error(one, channel) {
    if (one.cosine[channel] === null) return one.why ? el("span", { class: "caption", title: one.why }, "error not known") : null;
    return el(
      "span",
      { title: "with what the linearized network weighs of the picture, branches and batch normalizations included" },
      `cosine ${number(one.cosine[channel])}, error ${number(one.error[channel])}`,
    );
  }

  function filter(one, channel, view) {
    const made = [one.mode, one.folded ? "batch normalization folded in" : "batch normalization left out", one.weighted ? "weighted by standard deviation" : null];
    return el(
      "div",
      { class: "virtual" },
      el(
        "figure",
        { class: "whole" },
        picture(one.filters, channel, view.home, `virtual filter of ${one.site}:${channel}`),
        el("figcaption", {}, el("strong", {}, one.site), el("span", {}, one.size.join(" × "), " px"), error(one, channel)),
      ),
      el("span", { class: "made-of", "aria-hidden": "true" }, "="),
      el(
        "ol",
        { class: "read", title: `channels of ${one.reads}` },
        one.read[channel].map((k, i) =>
          el(
            "li",
            { title: `${one.reads}:${k}, coupling ${number(one.coupling[channel][i])}` },
            picture(one.basis, k, view.home, `filter of ${one.reads}:${k}`),
            el("strong", { class: one.coupling[channel][i] < 0 ? "negative" : null }, `${one.coupling[channel][i] < 0 ? "" : "+"}${number(one.coupling[channel][i])}`),
            el("small", {}, String(k)),
          ),
        ),
        one.read[channel].length < one.basis.count ? el("li", { class: "more", title: "and all others" }, "…") : null,
      ),
      el("p", { class: "caption" }, `Made of ${made.filter(Boolean).join("; ")}. Through ${[...one.chain, one.site].join(" > ")}.`),
    );
  }

  Panels.add("filters", {
    unit: (data, channel, view) =>
      el(
        "section",
        { class: "virtual-filters" },
        el("h3", {}, "Virtual filter", el("small", {}, "the filters it reads, the most strongly coupled first, with the coupling")),
        data.map((one) => filter(one, channel, view)),
      ),
    ways,
  });
})();
