// One unit, closely: what it responds to most and least, where it looks, its numbers; beside it the other network's unit of the same place.
"use strict";

const Unit = (() => {
  const { atlas, root, el, number, shown, tile, frame, load, address, hash, keys, record, site } = Atlas;
  const section = document.getElementById("unit");
  const rivals = atlas.records.filter((one) => one.slug in site.beside);
  let last = null;

  const dataOf = (one) => unitscope.sites[`${one.slug}/${siteOf(one).slug}`];
  const siteOf = (one) => (one === record ? site : one.sites.find((other) => other.name === site.beside[one.slug]));
  const imagesOf = (one) => unitscope.images[one.album.split("/").pop()];

  /** The other network's data are read when they are first needed. */
  async function ready(one) {
    if (!dataOf(one)) await load(`${root}${one.slug}/data/${siteOf(one).slug}.js`);
    if (!imagesOf(one)) await load(`${root}${one.album}/images.js`);
  }

  async function show(channel) {
    const state = address();
    const rival = rivals.find((one) => one.slug === state.with) || rivals[0];
    const paired = rival && state.with !== "none" && channel < siteOf(rival).channels;
    if (paired) {
      try {
        await ready(rival);
      } catch (error) {
        return draw(channel, [record], error.message);
      }
      if (address().unit !== channel) return undefined;
    }
    return draw(channel, paired ? [record, rival] : [record], null);
  }

  function draw(channel, views, trouble) {
    const parts = [
      heading(channel),
      trouble ? el("p", { class: "note" }, trouble) : "",
      ...Panels.across(views.map((one) => ({ one, channel, data: dataOf(one), home: `${root}${one.slug}/sprites/` }))).filter(Boolean),
      el("div", { class: `views of-${views.length}` }, views.map((one) => column(one, channel, views.length === 1))),
    ];
    section.replaceChildren(...parts);
    section.hidden = false;
    if (last === null || !section.contains(document.activeElement)) section.querySelector("h1").focus({ preventScroll: true });
    if (last === null) window.scrollTo(0, 0);
    last = channel;
    document.title = `${site.name}:${channel} · ${record.title} · unitscope atlas`;
  }

  function heading(channel) {
    const order = Sheet.order().includes(channel) ? Sheet.order() : Array.from({ length: site.channels }, (_, i) => i);
    const at = order.indexOf(channel);
    const link = (to, sign, words) =>
      to === undefined
        ? el("a", { "aria-disabled": "true", class: "step" }, sign)
        : el("a", { href: hash({ ...address(), unit: to }), class: "step", "aria-label": `${words}: unit ${to}`, title: `${words}: ${to}` }, sign);
    return el(
      "div",
      { class: "title" },
      el("h1", { tabindex: -1 }, el("span", { class: "at" }, `${site.name}:`), String(channel), site.classes ? el("span", { class: "class" }, site.classes[channel]) : null),
      el("p", { class: "walk" }, link(order[at - 1], "‹", "previous unit (←)"), el("span", {}, `${at + 1} of ${order.length}`), link(order[at + 1], "›", "next unit (→)")),
      el("p", { class: "ways-out" }, el("a", { href: hash({ ...address(), unit: null }) , "data-sheet": true }, "all units"), chooser()),
    );
  }

  /** With which network to compare, where there is a choice. */
  function chooser() {
    if (!rivals.length) return null;
    const now = address().with || rivals[0].slug;
    const options = [...rivals.map((one) => [one.slug, `beside ${one.title}`]), ["none", "alone"]];
    return el(
      "label",
      {},
      el("span", { class: "hidden" }, "Compare"),
      el(
        "select",
        { onchange: (event) => (location.hash = hash({ ...address(), with: event.target.value === rivals[0].slug ? null : event.target.value })) },
        options.map(([value, text]) => el("option", { value, selected: value === now }, text)),
      ),
    );
  }

  function column(one, channel, alone) {
    const data = dataOf(one);
    const view = { one, channel, data, images: imagesOf(one), home: `${root}${one.slug}/sprites/`, stage: el("figure", { class: "stage" }), chosen: null };
    view.cut = ([image, , , , ...box]) => cut(view, image, box);
    const dead = (data.columns.find((each) => each.key === "inactive") || { values: [] }).values[channel];
    const article = el(
      "article",
      { class: `view${dead ? " is-inactive" : ""}`, "aria-label": `${one.title} ${siteOf(one).name}:${channel}` },
      el("h2", { class: alone && !dead ? "hidden" : null }, one.title, siteOf(one).name === site.name ? null : el("small", {}, siteOf(one).name), dead ? el("span", { class: "badge", title: "no response above 0 at any position of any photograph" }, "inactive") : null),
      el("div", { class: "closeup" }, view.stage, means(view)),
      gallery(view, "preferred", "Preferred", "highest responses, one patch per photograph"),
      gallery(view, "antipreferred", "Antipreferred", "lowest responses"),
      Panels.units(view.data, channel, view),
      numbers(view),
      listing(view),
    );
    const first = article.querySelector("button.patch");
    if (first) first.select();
    else view.stage.append(el("p", { class: "caption" }, "No stimulus is recorded for this unit."));
    return article;
  }

  function gallery(view, pole, title, meaning) {
    const stimuli = view.data.stimuli[pole][view.channel];
    return el(
      "section",
      { class: `gallery ${pole}` },
      el("h3", {}, title, el("small", {}, meaning)),
      stimuli.length
        ? el("ol", { class: "patches" }, stimuli.map((stimulus, rank) => el("li", {}, patch(view, pole, rank, stimulus))))
        : el("p", { class: "caption" }, "none recorded"),
    );
  }

  function named(view, image) {
    const { uris, labels, label } = view.images;
    return { uri: uris[image] ?? `image ${image}`, label: label[image] === null || label[image] === undefined ? null : labels[label[image]] };
  }

  /** The photograph of a stimulus, or null where the atlas has none. */
  function photograph(view, image) {
    if (!view.images.stored[image]) return null;
    const digits = (value, length) => String(value).padStart(length, "0");
    return `${root}${view.one.album}/${digits(Math.floor(image / 1000), 3)}/${digits(image, 6)}.webp`;
  }

  function patch(view, pole, rank, stimulus) {
    const [image, row, col, value, ...box] = stimulus;
    const { uri, label } = named(view, image);
    const words = `${pole} ${rank + 1}: response ${number(value)}, ${label ? `${label}, ` : ""}${uri}, position ${row}, ${col}`;
    const button = el(
      "button",
      { type: "button", class: "patch", "aria-label": words, title: words },
      el("span", { class: "cell" }, cut(view, image, box)),
      el("span", { class: "value" }, number(value)),
    );
    button.select = () => {
      if (view.chosen) view.chosen.removeAttribute("aria-pressed");
      view.chosen = button;
      button.setAttribute("aria-pressed", "true");
      stage(view, pole, rank, stimulus);
    };
    for (const occasion of ["click", "focus", "pointerenter"]) button.addEventListener(occasion, button.select);
    return button;
  }

  /** The field of one neuron cut out of the photograph; hatched where it hangs over the edge. */
  function cut(view, image, box) {
    const [height, width] = view.images.size;
    const [top, left, bottom, right] = frame(box, [height, width]);
    const [rows, cols] = [bottom - top, right - left];
    const span = el("span", { class: rows > cols ? "cut tall" : "cut", style: `aspect-ratio:${cols}/${rows}` });
    const source = photograph(view, image);
    if (!source) {
      span.classList.add("nothing");
      return span;
    }
    const hidden = [Math.max(box[0], 0) / height, 1 - Math.min(box[3], width) / width, 1 - Math.min(box[2], height) / height, Math.max(box[1], 0) / width];
    const small = Math.max(rows, cols) * view.images.scale <= 36;
    span.append(
      el("img", {
        src: source,
        alt: "",
        decoding: "async",
        class: small ? "sharp" : null,
        style: `width:${(100 * width) / cols}%;left:${(-100 * left) / cols}%;top:${(-100 * top) / rows}%;clip-path:inset(${hidden.map((share) => `${Math.max(0, 100 * share)}%`).join(" ")})`,
      }),
    );
    return span;
  }

  /** The field drawn on the whole photograph, and in words where it lies. */
  function stage(view, pole, rank, [image, row, col, value, top, left, bottom, right]) {
    const [height, width] = view.images.size;
    const over = { top: Math.max(0, -top), left: Math.max(0, -left), bottom: Math.max(0, bottom - height), right: Math.max(0, right - width) };
    const room = (pixels, length) => Math.min(pixels, length * 0.3) + (pixels ? length * 0.02 : 0);
    const [x, y] = [-room(over.left, width), -room(over.top, height)];
    const [across, down] = [width + room(over.right, width) - x, height + room(over.bottom, height) - y];
    const { uri, label } = named(view, image);
    const source = photograph(view, image);
    const box = `M${left} ${top}H${right}V${bottom}H${left}Z`;
    const svg = el(
      "svg",
      { viewBox: `${x} ${y} ${across} ${down}`, preserveAspectRatio: "xMinYMin meet", role: "img", "aria-label": `The receptive field on ${label ? `${label}, ` : ""}${uri}` },
      el("rect", { class: "off", x, y, width: across, height: down }),
      source ? el("image", { href: source, x: 0, y: 0, width, height, preserveAspectRatio: "none" }) : el("rect", { class: "gone", width, height }),
      el("path", { class: "dim", "fill-rule": "evenodd", d: `M0 0H${width}V${height}H0Z M${Math.max(left, 0)} ${Math.max(top, 0)}H${Math.min(right, width)}V${Math.min(bottom, height)}H${Math.max(left, 0)}Z` }),
      el("path", { class: "halo", d: box, "vector-effect": "non-scaling-stroke" }),
      el("path", { class: "field", d: box, "vector-effect": "non-scaling-stroke" }),
    );
    const most = Math.max(over.top, over.left, over.bottom, over.right);
    view.stage.replaceChildren(
      svg,
      el(
        "figcaption",
        {},
        el("strong", {}, `${pole} ${rank + 1}`),
        ` · response ${number(value)}`,
        el("span", { class: "source" }, label ? el("span", { class: "label" }, label) : null, el("span", { class: "uri", title: uri }, uri)),
        el(
          "span",
          { class: "where" },
          `position ${row}, ${col} · field ${bottom - top} × ${right - left} px${most ? `, up to ${most} px over the edge` : ""}${source ? "" : " · the photograph could not be read any more"}`,
        ),
      ),
    );
  }

  function means(view) {
    const { mean, map, kernel } = view.data;
    const figures = [];
    const picture = (sprite, title, ...caption) => {
      const node = el("span", { class: "picture", role: "img", "aria-label": title });
      tile(node, sprite, view.channel, view.home);
      figures.push(el("figure", {}, node, el("figcaption", {}, el("strong", {}, title), caption)));
    };
    if (mean) {
      const n = mean.n[view.channel];
      const flag = n === 0 ? "the center neuron never responded" : n < mean.few ? `fewer than ${mean.few}: unreliable` : null;
      const count = el("span", { class: "count" }, `n = ${number(n)}`);
      picture(mean.absolute, "mean stimulus", count, flag ? el("span", { class: "flag" }, flag) : null);
      if (mean.contrast) picture(mean.contrast, "contrast", el("span", { class: "count", title: `minus ${mean.against}, around middle gray` }, `gain × ${number(mean.gain)}`));
    }
    for (const further of view.data.further)
      picture(further.absolute, further.title, el("span", { class: "count" }, `n = ${number(further.n[view.channel])}`));
    if (map)
      picture(
        map,
        "by position",
        el("span", { class: "count", title: "mean response at each position of the lattice, black lowest, white highest" }, `${number(map.low[view.channel])} to ${number(map.high[view.channel])}`),
      );
    if (kernel && view.channel < kernel.count)
      picture(kernel, "kernel", el("span", { class: "count", title: "around middle gray, one gain for the whole layer" }, `${kernel.of}, ${kernel.size.join(" × ")}`));
    return el("div", { class: "means" }, figures);
  }

  function numbers(view) {
    const general = view.data.columns.filter(({ key }) => key.split("/").length < 3); // others are of one category each
    const rows = general.map((column) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, column.name, column.says ? el("small", {}, column.says) : null),
        el("td", { class: "number" }, shown(column.values[view.channel], column), column.unit ? el("small", {}, ` ${column.unit}`) : null),
        el("td", { class: "among" }, column.kind === "number" ? among(column.values, view.channel) : null),
      ),
    );
    return el(
      "section",
      { class: "numbers" },
      el("h3", {}, "Numbers", el("small", {}, "the line shows all units of the site, the dot this one")),
      el("table", {}, el("tbody", {}, rows)),
    );
  }

  /** Where one value lies among those of all units of the site. */
  function among(values, channel) {
    const known = values.filter((value) => value !== null);
    const low = known.reduce((a, b) => Math.min(a, b), Infinity);
    const high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!(high > low) || values[channel] === null) return null;
    const x = (value) => (3 + (114 * (value - low)) / (high - low)).toFixed(1);
    const ticks = known.map((value) => `M${x(value)} 4v8`).join("");
    return el(
      "svg",
      { viewBox: "0 0 120 16", width: 120, height: 16, role: "img", "aria-label": `between ${number(low)} and ${number(high)}` },
      el("path", { class: "ticks", d: ticks }),
      el("circle", { cx: x(values[channel]), cy: 8, r: 3.5 }),
    );
  }

  function listing(view) {
    const details = el("details", {}, el("summary", {}, "All stimuli as a table"));
    details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(table(view)), { once: false });
    return details;
  }

  function table(view) {
    const rows = ["preferred", "antipreferred"].flatMap((pole) =>
      view.data.stimuli[pole][view.channel].map(([image, row, col, value, ...box], rank) => {
        const { uri, label } = named(view, image);
        return el("tr", {}, [`${pole} ${rank + 1}`, number(value), label ?? "–", uri, `${row}, ${col}`, box.join(", ")].map((text) => el("td", {}, text)));
      }),
    );
    const heads = ["rank", "response", "label", "photograph", "position", "box (top, left, bottom, right)"];
    return el("div", { class: "wide" }, el("table", { class: "listing" }, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, rows)));
  }

  function walk(by) {
    const now = address().unit;
    const order = Sheet.order().includes(now) ? Sheet.order() : Array.from({ length: site.channels }, (_, i) => i);
    const next = order[order.indexOf(now) + by];
    if (next !== undefined) location.replace(hash({ ...address(), unit: next }));
  }

  function hide() {
    section.hidden = true;
    section.replaceChildren();
    document.title = `${site.name} · ${record.title} · unitscope atlas`;
    if (last !== null) Sheet.focus(last);
    last = null;
  }

  /** What the address asks for: a unit, or the sheet. */
  function route() {
    const { unit } = address();
    const asked = unit !== null && unit < site.channels;
    Sheet.update();
    Sheet.element.hidden = asked;
    links();
    return asked ? show(unit) : hide();
  }

  /** Links to neighboring sites and to the other network keep what is being looked at. */
  function links() {
    const state = address();
    const keep = ({ channels }) => hash({ ...state, unit: state.unit === null ? null : Math.min(state.unit, channels - 1) });
    const place = record.sites.indexOf(site);
    const set = (link, to) => to && link.setAttribute("href", link.getAttribute("href").replace(/#.*/, "") + keep(to));
    set(document.querySelector("[data-before]"), record.sites[place - 1]);
    set(document.querySelector("[data-after]"), record.sites[place + 1]);
    document.querySelectorAll("[data-other]").forEach((link, i) => set(link, siteOf(rivals[i])));
  }

  const follow = (selector) => {
    const link = document.querySelector(selector);
    if (!link || !link.hasAttribute("href")) return false;
    link.click();
    return true;
  };
  keys["["] = () => follow("[data-before]");
  keys["]"] = () => follow("[data-after]");
  keys.o = () => follow("[data-other]");
  keys.Escape = () => (section.hidden ? follow("a.home") : (location.hash = hash({ ...address(), unit: null })));
  document.getElementById("site-choice").addEventListener("change", (event) => {
    const to = record.sites[event.target.selectedIndex];
    const state = address();
    location.href = event.target.value + hash({ ...state, unit: state.unit === null ? null : Math.min(state.unit, to.channels - 1) });
  });
  window.addEventListener("hashchange", route);
  route();
  return { walk };
})();
