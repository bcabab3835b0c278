// Category selectivity of one unit: the category's share at both ends, all indices, and photographs along the response axis.
"use strict";

Panels.add("selectivity", {
  unit(data, channel, view) {
    const { el, number, root } = Atlas;
    const WIDTH = 220;

    const named = (label) => data.names[label] ?? label;
    const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)} %`);

    /** Share of a category at one end as a bar, its prevalence as a line. */
    function bar(of, pole, prevalence) {
      const [share, p, q] = ["share", "p", "q"].map((what) => of(`${pole}_${what}`));
      if (share === null) return el("span", { class: "absent" }, "none");
      const words = `${number(share / prevalence)}\u00a0× chance${p === null ? "" : `, p\u00a0=\u00a0${number(p)}`}${q === null ? "" : `, q\u00a0=\u00a0${number(q)}`}`;
      return el(
        "span",
        { class: `share${q !== null && q < 0.05 ? " sure" : ""}`, title: `${percent(share)}, by chance ${percent(prevalence)}` },
        el(
          "svg",
          { viewBox: `0 0 ${WIDTH} 12`, preserveAspectRatio: "none", "aria-hidden": "true" },
          el("rect", { class: "track", width: WIDTH, height: 12 }),
          el("rect", { class: "bar", width: WIDTH * share, height: 12 }),
          el("line", { class: "chance", x1: WIDTH * prevalence, x2: WIDTH * prevalence, y1: -1, y2: 13 }),
        ),
        el("span", {}, percent(share)),
        el("small", {}, words),
      );
    }

    /** The other indices, side by side. */
    function others(of) {
      const label = of("preferred_label");
      const parts = [["fsi", "FSI"], ["d_prime", "d′"], ["auroc", "AUROC"], ["proportion", "proportion"], ["class_selectivity", "class selectivity"]]
        .filter(([key]) => of(key) !== null)
        .map(([key, name]) => `${name} ${number(of(key))}${key === "class_selectivity" && label ? ` (${named(label)})` : ""}`);
      return parts.length ? parts.join(" · ") : null;
    }

    const remark = (text, kind) => (text ? el("tr", { class: kind }, el("td", { colspan: 4 }, text)) : null);

    function row({ name, prevalence, values }) {
      const of = (key) => (values[key] ? values[key][channel] : null);
      return [
        el(
          "tr",
          {},
          el("th", { scope: "row" }, name),
          el("td", { class: "number" }, number(of("selectivity"))),
          el("td", {}, bar(of, "preferred", prevalence)),
          el("td", {}, bar(of, "antipreferred", prevalence)),
        ),
        remark(others(of), "remark"),
        remark(of("note"), "remark note"),
      ];
    }

    function indices() {
      const head = el("tr", {}, el("td", {}), data.categories.map(({ name }) => el("th", { scope: "col", class: "number" }, name)));
      const rows = data.measures.map(({ key, says, range, low, high }) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, key.replaceAll("_", " "), el("small", {}, says, range ? `; low: ${low}, high: ${high}` : "")),
          data.categories.map(({ values }) => el("td", { class: "number" }, number(values[key] ? values[key][channel] : null))),
        ),
      );
      return el("details", {}, el("summary", {}, "All indices, and what they say"), el("div", { class: "wide" }, el("table", { class: "indices" }, el("thead", {}, head), el("tbody", {}, rows))));
    }

    function photograph(image) {
      if (!view.images.stored[image]) return null;
      const digits = (value, length) => String(value).padStart(length, "0");
      return `${root}${view.one.album}/${digits(Math.floor(image / 1000), 3)}/${digits(image, 6)}.webp`;
    }

    function picture([image, value]) {
      const { uris, labels, label } = view.images;
      const name = label[image] === null || label[image] === undefined ? "" : named(labels[label[image]]);
      const source = photograph(image);
      const words = `response ${number(value)}${name ? `, ${name}` : ""}, ${uris[image] ?? image}`;
      return el(
        "figure",
        { title: words },
        source ? el("img", { src: source, alt: words, loading: "lazy", decoding: "async" }) : el("span", { class: "nothing", role: "img", "aria-label": words }),
        el("figcaption", {}, el("strong", {}, number(value)), " ", name),
      );
    }

    /** Figure 1: photographs of the most negative, of no, and of the strongest response, along the axis. */
    function axis() {
      const first = (pole) => {
        const seen = new Set();
        return view.data.stimuli[pole][channel].filter(([image]) => !seen.has(image) && seen.add(image)).slice(0, 4).map(([image, , , value]) => [image, value]);
      };
      const silent = data.silent ? data.silent.image[channel].map((image, rank) => [image, data.silent.value[channel][rank]]).filter(([image]) => image >= 0) : [];
      const groups = [
        ["most negative", first("antipreferred").reverse(), "antipreferred"],
        ["no response", silent, "silent"],
        ["strongest", first("preferred").reverse(), "preferred"],
      ].filter(([, listed]) => listed.length);
      if (!groups.length) return null;
      const values = groups.flatMap(([, listed]) => listed.map(([, value]) => value));
      const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
      const x = (value) => (high > low ? (8 + (984 * (value - low)) / (high - low)).toFixed(1) : 500);
      const line = el(
        "svg",
        { class: "line", viewBox: "0 0 1000 26", preserveAspectRatio: "none", role: "img", "aria-label": `responses from ${number(low)} to ${number(high)}` },
        el("path", { class: "rule", d: "M0 18H1000", "vector-effect": "non-scaling-stroke" }),
        el("path", { class: "zero", d: `M${x(0)} 6V26`, "vector-effect": "non-scaling-stroke" }),
        groups.map(([, listed, kind]) => el("path", { class: kind, d: listed.map(([, value]) => `M${x(value)} 10V18`).join(""), "vector-effect": "non-scaling-stroke" })),
      );
      return el(
        "div",
        { class: "axis" },
        el("p", { class: "scale" }, el("span", {}, number(low)), el("span", {}, "response"), el("span", {}, number(high))),
        line,
        el("div", { class: "groups" }, groups.map(([name, listed, kind]) => el("section", { class: kind }, el("h4", {}, name), el("div", { class: "pictures" }, listed.map(picture))))),
        data.silent ? null : el("p", { class: "caption" }, "What leaves this unit at zero is known where each photograph's response is kept (survey --responses)."),
      );
    }

    return el(
      "section",
      { class: "selectivity" },
      el("h3", {}, "Category selectivity", el("small", {}, "share of the category among the highest and the lowest responses; the line is its share of all photographs, bold where chance does not give it")),
      el(
        "table",
        { class: "ends" },
        el("thead", {}, el("tr", {}, ["category", "selectivity", "among the highest", "among the lowest"].map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, data.categories.slice(0, 12).flatMap(row)),
      ),
      axis(),
      indices(),
    );
  },
});
