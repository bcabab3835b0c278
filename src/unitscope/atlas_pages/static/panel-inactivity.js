// Units that never answer: badges and why on the unit pages; on the sheet, what the network lost when they were disturbed.
"use strict";

(() => {
  const { el, number } = Atlas;
  const WIDTH = 300;
  const BEND = 0.01; // the axis is linear around 0 and logarithmic beyond this

  const bent = (value) => Math.asinh(value / BEND);
  const signed = (value, digits = 4) => {
    if (value === null) return "–";
    const size = Math.abs(value);
    if (size < 1e-12) return "0";
    return (value < 0 ? "\u2212" : "+") + (size < 10 ** -digits ? size.toExponential(1).replace("-", "\u2212") : size.toFixed(digits));
  };

  function scale(rows) {
    const ends = rows.flatMap((row) => [row.ci_low ?? row.delta_loss, row.ci_high ?? row.delta_loss]);
    const low = Math.min(bent(Math.min(...ends)), bent(-BEND));
    const high = Math.max(bent(Math.max(...ends)), bent(BEND));
    return (value) => 6 + ((WIDTH - 12) * (bent(value) - low)) / (high - low);
  }

  const TICKS = [-1, -0.1, -0.01, 0, 0.01, 0.1, 1];

  function axis(x) {
    const inside = TICKS.filter((tick) => x(tick) >= 4 && x(tick) <= WIDTH - 4);
    return el(
      "svg",
      { class: "ticks", viewBox: `0 0 ${WIDTH} 14`, "aria-hidden": "true" },
      inside.map((tick) => {
        const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
        text.setAttribute("x", x(tick));
        text.setAttribute("y", 11);
        text.append(tick > 0 ? `+${tick}` : String(tick).replace("-", "\u2212"));
        return text;
      }),
    );
  }

  /** The change of loss as a dot with its interval; in color where the interval leaves out 0. */
  function interval({ delta_loss: at, ci_low: low, ci_high: high }, x) {
    const sure = low !== null && (low > 0 || high < 0);
    return el(
      "svg",
      { class: sure ? "interval sure" : "interval", viewBox: `0 0 ${WIDTH} 14`, role: "img", "aria-label": `change of loss ${signed(at)}, 95 % interval ${signed(low)} to ${signed(high)}` },
      el("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 14 }),
      low === null ? null : el("line", { class: "range", x1: x(low), x2: x(high), y1: 7, y2: 7 }),
      el("circle", { cx: x(at), cy: 7, r: 3.2 }),
    );
  }

  function named(row, units) {
    const done = { noise: row.dose === 1 ? "noise" : `noise × ${row.dose}`, zero: "silence", mean: "their mean", resample: "another photograph's responses" }[row.what];
    const whose = row.which === "all" ? units : row.which === "one per batch" ? "one per batch" : row.which.replace("channel", "unit");
    return `${done}, ${whose}${row.path === "both" ? "" : `, into the ${row.path} only`}`;
  }

  function line(row, x, units) {
    const worst = row.worst_class === null ? "" : `; most in ${row.worst_class}, ${signed(row.worst_delta_loss)}; ${row.classes_changed} classes changed (q < 0.05)`;
    return el(
      "tr",
      { title: `${number(row.images)} photographs, ${row.seeds} ${row.seeds === 1 ? "pass" : "seeds"}${worst}` },
      el("th", { scope: "row" }, named(row, units)),
      el("td", { class: "plot" }, interval(row, x)),
      el("td", { class: "number" }, signed(row.delta_loss)),
      el("td", { class: "number soft" }, row.ci_low === null ? "–" : `${signed(row.ci_low)} to ${signed(row.ci_high)}`),
      el("td", { class: "number" }, signed(100 * row.delta_top1, 2)),
      el("td", { class: "number" }, `${(100 * row.flips).toFixed(1)} %`),
    );
  }

  function forest(groups) {
    const x = scale(groups.flatMap(([, rows]) => rows));
    const heads = ["", axis(x), "change of loss", "95 % interval", "top-1, points", "flips"];
    return el(
      "div",
      { class: "wide" },
      el(
        "table",
        { class: "forest" },
        el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: i > 1 ? "number" : null }, head)))),
        groups.map(([name, rows, units]) =>
          el("tbody", {}, name ? el("tr", { class: "group" }, el("th", { colspan: 6, scope: "rowgroup" }, name)) : null, rows.map((row) => line(row, x, units))),
        ),
      ),
    );
  }

  const SCALE = "The axis is linear around 0 and logarithmic beyond 0.01. Colored: the interval leaves out 0.";

  function site({ levels, losses }) {
    const dead = levels ? levels.flags.certified_dead.filter(Boolean).length : 0;
    const framed = dead ? el("p", { class: "caption" }, `Framed: certified dead (${number(dead)}), proven from the weights; no picture can activate ${dead === 1 ? "it" : "them"}.`) : null;
    if (!framed && !losses) return null;
    return el("section", { class: "inactivity losses" }, framed, losses ? disturbances(losses) : null);
  }

  function disturbances(losses) {
    const { rows, channels, chosen, loss, top1 } = losses;
    const of = (target) => rows.filter((row) => row.target === target);
    const count = channels.length;
    const groups = [
      [`${count === 1 ? "the unit" : `the ${count} units`}, ${chosen}: ${channels.slice(0, 12).join(", ")}${count > 12 ? ", …" : ""}`, of("chosen"), "all"],
      ["as many units that answer, drawn anew for each seed", of("active"), "all"],
    ].filter(([, listed]) => listed.length);
    return el(
      "div",
      {},
      el("h3", {}, "What is lost by disturbing them", el("small", {}, `units of ${losses.site} disturbed; loss ${loss.toFixed(4)}, top-1 ${(100 * top1).toFixed(1)} % undisturbed; ${number(rows[0].images)} photographs`)),
      forest(groups),
      el("p", { class: "caption" }, `Means of paired differences of the loss, averaged over seeds; intervals over photographs. ${SCALE}`),
    );
  }

  const badge = (text, said, strong) => el("span", { class: strong ? "badge" : "badge quiet", title: said }, text);

  function badges({ flags, weights, positive_share: share }, channel) {
    const holds = (name) => flags[name][channel];
    const found = [];
    if (holds("certified_dead")) found.push(badge("certified dead", `proven from the weights: no picture can draw more than ${number(weights.highest_possible[channel])}`, true));
    if (holds("never_positive")) found.push(badge("never positive", "no response above 0 at any position of any photograph shown", true));
    else if (holds("numerically_dead")) found.push(badge("numerically dead", "its highest response is at most a millionth of its site's median", true));
    if (holds("rarely_active") && !holds("never_positive")) found.push(badge("rarely active", `above 0 at fewer than 1 in 10,000 positions; for ${(100 * share[channel]).toPrecision(2)} % of the photographs`, false));
    return found;
  }

  function why({ flags, weights, median_norm: median }, channel) {
    const value = (name) => (weights[name] ? weights[name][channel] : null);
    const norm = value("kernel_norm");
    const parts = [
      flags.certified_dead[channel] ? `No picture can draw more than ${number(value("highest_possible"))}` : value("highest_possible") === null ? "Nothing is known from its weights" : "Not proven dead for every picture",
      norm === null ? null : `kernel norm ${number(norm)}${median ? `, ${number(norm / median)} × the median of the site` : ""}`,
      value("gain") === null ? null : `batch normalization: gain ${number(value("gain"))}, offset ${number(value("offset"))}`,
      value("gain") === null && value("offset") !== null ? `offset ${number(value("offset"))}` : null,
    ].filter(Boolean);
    return `${parts.join("; ")}.`;
  }

  function unit({ levels, losses }, channel) {
    const found = levels ? badges(levels, channel) : [];
    const disturbed = losses && losses.channels.includes(channel) ? losses : null;
    if (!found.length && !disturbed) return null;
    const own = disturbed ? disturbed.rows.filter((row) => row.which === `channel ${channel}`) : [];
    const together = disturbed ? disturbed.rows.filter((row) => row.target === "chosen" && row.which === "all" && row.path === "both" && [1, undefined].includes(row.dose)) : [];
    const count = disturbed ? disturbed.channels.length : 0;
    const words = count > 1 ? `all ${count} units` : "this unit";
    return el(
      "section",
      { class: "inactivity" },
      el("h3", {}, "Is it needed?", found),
      found.length ? el("p", { class: "caption" }, why(levels, channel)) : null,
      disturbed ? forest([["", [...own, ...together], words]]) : null,
      disturbed ? el("p", { class: "caption" }, `${number(disturbed.rows[0].images)} photographs. ${SCALE}`) : null,
    );
  }

  const tint = ({ levels }, channel) => (levels && levels.flags.certified_dead[channel] ? "var(--ink)" : null);

  const mark = ({ levels }, channel) => (levels && levels.flags.certified_dead[channel] ? "certified dead: no picture can activate it" : null);

  Panels.add("inactivity", { unit, site, tint, mark });
})();
