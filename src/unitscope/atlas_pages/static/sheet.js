// The sheet: all units of a site, each as one small picture; sorted, filtered, walked through with the arrow keys.
"use strict";

const Sheet = (() => {
  const { el, number, shown, tile, address, hash, keys, record, site } = Atlas;
  const data = unitscope.sites[`${record.slug}/${site.slug}`];
  const columns = Object.fromEntries(data.columns.map((column) => [column.key, column]));
  const sheet = document.getElementById("sheet");
  const tiles = document.getElementById("tiles");
  const form = document.getElementById("controls");
  const ways = [
    ["best", "best patch", data.patches.preferred, "Each unit by its most preferred patch: what drew its highest response, cut to its receptive field."],
    ["worst", "least", data.patches.antipreferred, "Each unit by its most antipreferred patch: what drew its lowest response."],
  ];
  if (data.mean) {
    const { gain, against } = data.mean;
    ways.push(["mean", "mean", data.mean.absolute, "Each unit by its mean preferred stimulus: the average of what its center neuron saw when it responded above 0."]);
    if (data.mean.contrast) ways.push(["contrast", "mean, contrast", data.mean.contrast, `Mean preferred stimuli minus ${against}, around middle gray; contrast × ${number(gain)} for all units alike.`]);
  }
  for (const { title, absolute } of data.further)
    ways.push([title.replaceAll(/\W+/g, "-"), title, absolute, `Each unit by its mean preferred stimulus: ${title.replace("mean, ", "")}.`]);
  if (data.map) ways.push(["map", "by position", data.map, "The mean response of each unit at each position of its lattice, from black (lowest) to white (highest)."]);
  if (data.kernel) ways.push(["kernel", "kernel", data.kernel, `First-layer kernels (${data.kernel.of}) around middle gray; contrast × ${number(data.kernel.gain)} for all units alike.`]);
  ways.push(...Panels.ways(data));

  const inactive = columns.inactive ? columns.inactive.values : [];
  const sortable = data.columns.filter((column) => new Set(column.values).size > 1);
  const nodes = Array.from({ length: site.channels }, (_, channel) => node(channel));
  let order = nodes.map((_, channel) => channel);
  let painted = null;

  function node(channel) {
    const link = el(
      "a",
      { class: "unit-tile", href: `#${channel}`, tabindex: -1, "data-unit": channel, "aria-label": `unit ${channel}${inactive[channel] ? ", inactive" : ""}` },
      el("span", { class: "box" }, el("span", { class: "picture" })),
      el("span", { class: "channel" }, String(channel)),
      el("span", { class: "value" }),
    );
    if (inactive[channel]) {
      link.classList.add("inactive");
      link.title = "inactive: never responded above 0";
    }
    for (const mark of Panels.marks(data, channel)) link.title = [link.title, mark].filter(Boolean).join("; ");
    const tint = Panels.tint(data, channel);
    if (tint) link.style.setProperty("--tint", tint);
    if (site.classes) link.title = `${site.classes[channel]}${inactive[channel] ? " (inactive)" : ""}`;
    return el("div", { role: "listitem" }, link);
  }

  const choice = (name, label, options, extra) =>
    el("label", extra || {}, el("span", {}, label), el("select", { name }, options.map(([value, text]) => el("option", { value }, text))));

  function build() {
    const dead = inactive.filter(Boolean).length;
    form.append(
      el(
        "fieldset",
        { class: "ways" },
        el("legend", {}, el("span", {}, "show")),
        ways.map(([key, label]) => el("label", {}, el("input", { type: "radio", name: "show", value: key }), el("span", {}, label))),
      ),
      el(
        "span",
        { class: "pair" },
        choice("sort", "sort by", [["", "channel"], ...sortable.map((column) => [column.key, column.name])]),
        el("button", { type: "button", name: "turn", class: "turn", "aria-label": "Turn the order round", title: "turn the order round" }, "↑"),
      ),
      el(
        "span",
        { class: "range" },
        el("svg", { class: "histogram", viewBox: "0 0 120 24", width: 120, height: 24, preserveAspectRatio: "none", "aria-hidden": "true" }),
        el("label", {}, el("span", {}, "from"), el("input", { name: "from", inputmode: "decimal", size: 6, autocomplete: "off" })),
        el("label", {}, el("span", {}, "to"), el("input", { name: "to", inputmode: "decimal", size: 6, autocomplete: "off" })),
      ),
      choice("inactive", "inactive", [["", "shown"], ["hide", "hidden"], ["only", `only these (${dead})`]], { hidden: dead === 0 }),
      el("label", { class: "find" }, el("span", {}, "unit"), el("input", { name: "unit", inputmode: "numeric", size: 4, placeholder: "#", autocomplete: "off", "aria-label": `Go to unit, 0 to ${site.channels - 1}` })),
    );
    form.addEventListener("change", (event) => event.target.name !== "unit" && changed());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const asked = form.unit.value.trim();
      if (/^\d+$/.test(asked) && Number(asked) < site.channels) location.hash = hash({ ...address(), unit: Number(asked) });
    });
    form.unit.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), form.requestSubmit()));
    form.turn.addEventListener("click", () => {
      const state = address();
      const sort = state.sort || "";
      location.hash = hash({ ...state, sort: sort.startsWith("-") ? sort.slice(1) : `-${sort || "channel"}` });
    });
    if (!sortable.length) form.querySelector(".pair").hidden = true;
    sheet.append(...Panels.sites(data));
  }

  /** What the controls say, written into the address; the rest follows from there. */
  function changed() {
    const key = form.sort.value;
    const before = parsed(address().sort);
    const falling = key === before.key ? before.falling : key !== "" && columns[key].kind !== "text";
    const same = key === before.key;
    location.hash = hash({
      ...address(),
      show: form.show.value === "best" ? null : form.show.value,
      sort: (falling ? "-" : "") + (key || (falling ? "channel" : "")),
      from: same ? form.from.value.trim() : null,
      to: same ? form.to.value.trim() : null,
      inactive: form.inactive.value,
    });
  }

  function parsed(sort) {
    const falling = (sort || "").startsWith("-");
    const key = (sort || "").replace(/^-/, "");
    return { falling, key: columns[key] ? key : "" };
  }

  const bound = (text) => (text === undefined || text === "" || Number.isNaN(Number(text)) ? null : Number(text));

  function update() {
    const state = address();
    const { falling, key } = parsed(state.sort);
    const way = ways.find(([name]) => name === state.show) || ways[0];
    arrange(state, key, falling);
    paint(way);
    label(key);
    reflect(state, way, key, falling);
  }

  /** Which units are kept, and in what order; what has no value comes last either way. */
  function arrange(state, key, falling) {
    const values = key ? columns[key].values : null;
    const [from, to] = [bound(state.from), bound(state.to)];
    const kept = (channel) => {
      if (state.inactive === "hide" && inactive[channel]) return false;
      if (state.inactive === "only" && !inactive[channel]) return false;
      if (!values || (from === null && to === null)) return true;
      const value = values[channel];
      return value !== null && (from === null || value >= from) && (to === null || value <= to);
    };
    const sign = falling ? -1 : 1;
    const compare = (a, b) => {
      if (!values) return sign * (a - b);
      const [x, y] = [values[a], values[b]];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * ((x > y) - (x < y)) || a - b;
    };
    order = nodes.map((_, channel) => channel).filter(kept).sort(compare);
    tiles.replaceChildren(...order.map((channel) => nodes[channel]));
    nodes.forEach((one) => (one.firstChild.tabIndex = -1));
    if (order.length) nodes[order[0]].firstChild.tabIndex = 0;
  }

  function paint([name, , sprite]) {
    if (painted === name) return;
    painted = name;
    tiles.classList.toggle("pairs", Boolean(sprite && sprite.tile[1] > 1.5 * sprite.tile[0]));
    nodes.forEach((one, channel) => tile(one.querySelector(".picture"), sprite, channel, "sprites/"));
  }

  function label(key) {
    const column = columns[key];
    nodes.forEach((one, channel) => {
      one.querySelector(".value").textContent = column && column.kind !== "flag" ? shown(column.values[channel], column) : "";
    });
  }

  function reflect(state, way, key, falling) {
    form.show.value = way[0];
    form.sort.value = key;
    form.inactive.value = state.inactive || "";
    form.turn.textContent = falling ? "↓" : "↑";
    form.from.value = state.from || "";
    form.to.value = state.to || "";
    const numeric = Boolean(key && columns[key].kind === "number");
    form.querySelector(".range").hidden = !numeric;
    if (numeric) histogram(columns[key].values, bound(state.from), bound(state.to));
    const note = document.getElementById("sheet-note");
    const meaning = key && columns[key].says ? ` Sorted by ${columns[key].name}: ${columns[key].says}.` : "";
    const few = order.length < nodes.length ? ` ${number(order.length)} of ${number(nodes.length)} units.` : "";
    note.textContent = way[3] + meaning + few;
    document.getElementById("tiles").classList.toggle("empty", order.length === 0);
  }

  function histogram(values, from, to) {
    const known = values.filter((value) => value !== null);
    const [low, high] = [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
    const bins = new Array(40).fill(0);
    const width = (high - low) / bins.length || 1;
    known.forEach((value) => (bins[Math.min(bins.length - 1, Math.floor((value - low) / width))] += 1));
    const most = Math.max(...bins);
    const svg = form.querySelector(".histogram");
    svg.replaceChildren(
      ...bins.map((count, i) => {
        const middle = low + (i + 0.5) * width;
        const inside = (from === null || middle >= from) && (to === null || middle <= to);
        const height = count ? Math.max(1, (22 * count) / most) : 0;
        return el("rect", { x: i * 3, y: 24 - height, width: 2.4, height, class: inside ? "in" : "out" });
      }),
    );
    form.from.placeholder = number(low);
    form.to.placeholder = number(high);
  }

  function focus(channel) {
    const link = nodes[channel] && nodes[channel].isConnected ? nodes[channel].firstChild : null;
    if (!link) return;
    tiles.querySelectorAll('[tabindex="0"]').forEach((one) => (one.tabIndex = -1));
    link.tabIndex = 0;
    link.focus({ preventScroll: false });
  }

  /** Move the focus among the tiles: by one, or by as many as stand in a row. */
  function step(by) {
    const at = order.indexOf(Number(document.activeElement.dataset.unit ?? -1));
    if (at < 0) return order.length ? focus(order[0]) : undefined;
    const next = Math.min(Math.max(at + by, 0), order.length - 1);
    focus(order[next]);
  }

  function perRow() {
    const tops = [...tiles.children].slice(0, 200).map((one) => one.offsetTop);
    const second = tops.findIndex((top) => top !== tops[0]);
    return second < 0 ? tops.length : second;
  }

  function nextWay() {
    const now = ways.findIndex(([name]) => name === (address().show || "best"));
    const next = ways[(now + 1) % ways.length][0];
    location.hash = hash({ ...address(), show: next === "best" ? null : next });
  }

  /** A tile's link is the unit's permanent one; a plain click also keeps order and filters. */
  tiles.addEventListener("click", (event) => {
    const link = event.target.closest("[data-unit]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    location.hash = hash({ ...address(), unit: Number(link.dataset.unit) });
  });

  const open = () => !sheet.hidden;
  keys.ArrowRight = () => (open() ? step(1) : Unit.walk(1));
  keys.ArrowLeft = () => (open() ? step(-1) : Unit.walk(-1));
  keys.ArrowDown = () => (open() && document.activeElement.dataset.unit ? step(perRow()) : false);
  keys.ArrowUp = () => (open() && document.activeElement.dataset.unit ? step(-perRow()) : false);
  keys.m = () => (open() ? nextWay() : false);

  build();
  return { data, columns, update, focus, order: () => order, element: sheet };
})();
