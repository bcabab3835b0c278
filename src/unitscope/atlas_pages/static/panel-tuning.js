// Tuning: polar and frequency plots, size, contrast, the color plane; frames of the sheet are colored as a pinwheel.
"use strict";

(() => {
  const { el, number } = Atlas;
  const NS = "http://www.w3.org/2000/svg";

  /** An SVG element; Atlas.el knows fewer of them. */
  function draw(name, attributes, ...children) {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) node.setAttribute(key, value);
    node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return node;
  }

  const title = (text) => draw("title", {}, text);
  const radians = (degrees) => (degrees * Math.PI) / 180;
  const pinwheel = (orientation, selectivity) => `hsl(${(2 * orientation).toFixed(0)} ${Math.min(100, 15 + 130 * selectivity).toFixed(0)}% 52%)`;

  const own = (data, channel) => Object.fromEntries(Object.entries(data).map(([key, values]) => [key, values[channel]]));

  function tint(data, channel) {
    const { responsive, preferred_orientation: at, orientation_selectivity: how } = own(data.orientation, channel);
    return responsive && at !== null ? pinwheel(at, how) : null;
  }

  function ways(data) {
    return [
      [
        "grating",
        "best grating",
        data.best,
        "Each unit by its best grating, 24 × 24 pixels of it; pale where orientation hardly matters. Frames: preferred orientation, red horizontal, green 60°, blue 120°; gray where it hardly matters.",
      ],
    ];
  }

  const figure = (svg, name, ...words) => el("figure", {}, svg, el("figcaption", {}, el("strong", {}, name), words.filter(Boolean).map((text) => el("span", {}, text))));

  /** Responses by orientation, all round; each orientation twice, as a bar has two ends. */
  function polar(curve, facts) {
    const points = [...curve, ...curve].map((value, i) => {
      const angle = (i * Math.PI) / curve.length;
      return `${(46 * value * Math.cos(angle)).toFixed(1)},${(-46 * value * Math.sin(angle)).toFixed(1)}`;
    });
    const at = facts.preferred_orientation;
    const [x, y] = [50 * Math.cos(radians(at)), -50 * Math.sin(radians(at))];
    return draw(
      "svg",
      { viewBox: "-56 -56 112 112", class: "polar", role: "img", "aria-label": `orientation tuning, preferred ${number(at)} degrees` },
      [23, 46].map((r) => draw("circle", { r, class: "grid" })),
      draw("path", { class: "grid", d: "M-50 0H50M0 -50V50" }),
      draw("path", { d: `M${-x} ${-y}L${x} ${y}`, stroke: pinwheel(at, 1), "stroke-width": 2.5, "stroke-linecap": "round" }),
      draw("polygon", { points: points.join(" "), class: "area" }, title("response by the orientation of the bars, as a share of the best")),
    );
  }

  /** A curve over an axis: logarithmic or not, with ticks at given places and marks. */
  function curve(values, axis, { ticks, label, log = true, marks = [], round = false }) {
    const [width, height, left, bottom] = [150, 92, 8, 16];
    const scale = (value) => (log ? Math.log(value) : value);
    const [low, high] = [scale(axis[0]), scale(axis[axis.length - 1])];
    const x = (value) => left + ((width - 2 * left) * (scale(value) - low)) / (high - low || 1);
    const y = (value) => 6 + (height - bottom - 6) * (1 - value);
    const within = (value) => scale(value) >= low - 1e-9 && scale(value) <= high + 1e-9;
    return draw(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, class: "curve", role: "img", "aria-label": label },
      draw("path", { class: "grid", d: `M${left} ${y(0)}H${width - left}M${left} ${y(Math.SQRT1_2)}H${width - left}` }),
      ticks.filter(within).map((tick) => [
        draw("path", { class: "grid", d: `M${x(tick)} ${y(0)}v3` }),
        draw("text", { x: x(tick), y: height - 2, "text-anchor": "middle" }, String(round ? Math.round(tick) : tick)),
      ]),
      marks.filter((value) => value !== null && within(value)).map((value, i) => draw("path", { class: i ? "cut-off" : "peak", d: `M${x(value)} ${y(0)}V6` })),
      draw("polyline", { class: "line", points: values.map((value, i) => `${x(axis[i]).toFixed(1)},${y(value).toFixed(1)}`).join(" ") }),
      values.map((value, i) => draw("circle", { cx: x(axis[i]), cy: y(value), r: 1.8, class: "dot" })),
    );
  }

  /** The plane of equal luminance: L - M to the right, S upwards; responses to uniform hues, and the unit's axis. */
  function plane(hues, color) {
    const rim = Array.from({ length: 36 }, (_, i) => {
      const [a, b] = [radians(i * 10 - 5.5), radians(i * 10 + 5.5)];
      const at = (r, angle) => `${(r * Math.cos(angle)).toFixed(1)} ${(-r * Math.sin(angle)).toFixed(1)}`;
      return draw("path", { d: `M${at(48, a)}L${at(54, a)}L${at(54, b)}L${at(48, b)}Z`, fill: dkl(i * 10) });
    });
    const points = (hues || []).map((value, i) => `${(44 * value * Math.cos(radians(i * 10))).toFixed(1)},${(-44 * value * Math.sin(radians(i * 10))).toFixed(1)}`);
    const axis = color.hue_axis === null ? null : [46 * Math.cos(radians(color.hue_axis)), -46 * Math.sin(radians(color.hue_axis))];
    return draw(
      "svg",
      { viewBox: "-60 -60 140 120", class: "plane", role: "img", "aria-label": "responses to uniform hues of equal luminance" },
      rim,
      draw("path", { class: "grid", d: "M-46 0H46M0 -46V46" }),
      axis ? draw("path", { class: "hue-axis", d: `M${-axis[0]} ${-axis[1]}L${axis[0]} ${axis[1]}` }, title("axis of color of its best colored grating")) : null,
      hues ? draw("polygon", { points: points.join(" "), class: "area" }, title("rise above rest on uniform hues, as a share of the best")) : null,
      draw("text", { x: 57, y: 3, class: "axis-name" }, "L−M"),
      draw("text", { x: 3, y: -38, class: "axis-name" }, "S"),
    );
  }

  /** A hue of the plane as sRGB, at most of the contrast that the display has: linear gray + direction, encoded. */
  function dkl(degrees) {
    const [lm, s] = [Math.cos(radians(degrees)), Math.sin(radians(degrees))];
    const light = [
      [3.52394, 0.084795],
      [-1.054061, -0.083928],
      [0.060511, 0.581687],
    ].map(([a, b]) => 0.5 + 0.13 * lm * a + 0.75 * s * b);
    const code = light.map((v) => Math.round(255 * Math.min(1, Math.max(0, v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055))));
    return `rgb(${code.join(" ")})`;
  }

  function bars(weights, words) {
    return draw(
      "svg",
      { viewBox: "0 0 96 92", class: "weights", role: "img", "aria-label": words.map((word, i) => `${word} ${number(weights[i])}`).join(", ") },
      draw("path", { class: "grid", d: "M4 42H92" }),
      weights.map((weight, i) => {
        const height = 36 * Math.abs(weight ?? 0);
        return [
          draw("rect", { x: 12 + 28 * i, y: weight > 0 ? 42 - height : 42, width: 18, height: Math.max(height, 0.5), class: `primary-${words[i]}` }, title(`${words[i]}: ${number(weight)}`)),
          draw("text", { x: 21 + 28 * i, y: 90, "text-anchor": "middle" }, words[i]),
        ];
      }),
    );
  }

  const badge = (text, said, strong) => el("span", { class: `badge${strong ? "" : " quiet"}`, title: said }, text);

  function badges(orientation, color) {
    const found = [];
    if (orientation.responsive) found.push(badge(orientation.simple ? "simple" : "complex", `F1/F0 ${number(orientation.f1_f0)}: ${orientation.simple ? "modulated by the phase of a grating" : "hardly modulated by the phase of a grating"}`, false));
    if (!color || !color.responsive) return found;
    const kind = { single: "single-opponent", double: "double-opponent", none: "not opponent" }[color.opponency];
    if (kind) found.push(badge(kind, "by the weights of cones and of red, green and blue, and by what a uniform field draws", color.opponency !== "none"));
    if (color.color_class) found.push(badge(color.color_class, `preference ${number(color.color_preference)}: best response to color over best response to luminance, equal cone contrast; ${number(color.channel_preference)} at equal change of pixel values`, false));
    for (const [space, kind, said] of [
      ["cones alone", color.cone_opponency, "by the weights of L, M and S cones alone; most units that add up red, green and blue are opponent in this sense"],
      ["RGB alone", color.channel_opponency, "by the weights of red, green and blue alone"],
    ])
      if (kind && kind !== color.opponency) found.push(badge(`${kind === "none" ? "not opponent" : `${kind}-opponent`} in ${space}`, said, false));
    return found;
  }

  const within = (low, high) => (low === null || high === null || low === undefined ? null : `(${number(low)} to ${number(high)})`);

  function unit(data, channel) {
    const orientation = own(data.orientation, channel);
    const color = data.color ? own(data.color, channel) : null;
    const curves = own(data.curves, channel);
    const axes = data.axes[data.axis[channel]];
    const figures = [];
    if (orientation.responsive && curves.orientation) {
      figures.push(
        figure(
          polar(curves.orientation, orientation),
          "orientation",
          `${number(orientation.preferred_orientation)}°, 1 − CV ${number(orientation.orientation_selectivity)}`,
          within(orientation.orientation_selectivity_low, orientation.orientation_selectivity_high),
          orientation.bandwidth === null ? "no bandwidth: never falls to 71 %" : `half width ${number(orientation.bandwidth)}°`,
        ),
        figure(
          curve(curves.frequency, axes.frequency, {
            ticks: [0.02, 0.05, 0.1, 0.2, 0.4],
            label: "response by spatial frequency",
            marks: [orientation.preferred_frequency, orientation.frequency_low, orientation.frequency_high],
          }),
          "spatial frequency",
          `${number(orientation.preferred_frequency)} cycles/px`,
          orientation.frequency_octaves === null ? "open on one side" : `${number(orientation.frequency_octaves)} octaves`,
        ),
      );
      if (curves.size)
        figures.push(
          figure(
            curve(curves.size, axes.size, { ticks: [2, 5, 10, 20, 50, 100], label: "response by size", marks: [orientation.preferred_size] }),
            "size",
            `${number(orientation.preferred_size)} px`,
            `suppression ${number(orientation.suppression)}`,
          ),
        );
      if (curves.contrast)
        figures.push(
          figure(
            curve(curves.contrast, axes.contrast, { ticks: [0.1, 0.5, 1], label: "response by contrast", log: false }),
            "contrast",
            orientation.contrast_saturates ? "saturates" : "does not saturate",
          ),
        );
    }
    if (color && color.responsive) {
      figures.push(
        figure(plane(curves.hue, color), "color", `preference ${number(color.color_preference)}`, within(color.color_preference_low, color.color_preference_high), color.opponency === "none" ? null : `axis ${number(color.hue_axis)}°`),
        figure(bars([color.cone_l, color.cone_m, color.cone_s], ["L", "M", "S"]), "cones", `uniform field ${number(color.low_pass)}`),
      );
      if (color.channel_red !== undefined)
        figures.push(figure(bars([color.channel_red, color.channel_green, color.channel_blue], ["R", "G", "B"]), "channels", `preference ${number(color.channel_preference)}`));
    }
    const shown = badges(orientation, color);
    const how = data.rectified ? "rectified responses of the center neuron" : "responses of the center neuron";
    return el(
      "section",
      { class: "tuning" },
      el("h3", {}, "Tuning", el("small", {}, how), shown),
      figures.length ? el("div", { class: "tuning-figures" }, figures) : el("p", { class: "caption" }, axes ? "Neither gratings nor colors drive this unit: it has no tuning." : "This unit was not shown gratings."),
      data.color ? null : el("p", { class: "caption" }, "Color is undefined: the network does not take three colors."),
    );
  }

  Panels.add("tuning", { unit, ways, tint });
})();
