// What all pages share: elements, numbers, sprites, the address, keys. Text only ever enters a page as text.
"use strict";

const Atlas = (() => {
  const atlas = window.unitscope.atlas;
  const body = document.body;
  const root = body.dataset.record ? "../" : "";

  /** An element with attributes and children; strings become text nodes, null is left out. */
  function el(name, attributes, ...children) {
    const svg = ["svg", "rect", "path", "image", "circle", "line", "defs", "pattern", "g"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }

  /** A number for reading: four significant digits, a true minus, thin spaces. */
  function number(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    let text;
    if (Number.isInteger(value)) text = size < 10000 ? String(size) : size.toLocaleString("en-US").replaceAll(",", "\u202f");
    else if (size !== 0 && (size < 1e-3 || size >= 1e6)) text = size.toExponential(2).replace("e", " × 10^");
    else text = size >= 100 ? size.toFixed(1) : size.toPrecision(3);
    return (value < 0 ? "\u2212" : "") + text;
  }

  function shown(value, column) {
    if (value === null || value === undefined) return "–";
    if (column.kind === "flag") return value ? "yes" : "no";
    return column.kind === "number" ? number(value) : String(value);
  }

  /** Let a node show tile i of a sprite; `home` is the folder of the sprite's files. */
  function tile(node, sprite, i, home) {
    const missing = !sprite || !sprite.files.length || sprite.missing.includes(i);
    node.classList.toggle("nothing", missing);
    node.classList.toggle("sharp", Boolean(sprite && sprite.sharp));
    if (missing) {
      node.style.cssText = "";
      return;
    }
    const [height, width] = sprite.tile;
    const file = Math.floor(i / sprite.per_file);
    const within = i % sprite.per_file;
    const count = Math.min(sprite.per_file, sprite.count - file * sprite.per_file);
    const [cellHeight, cellWidth] = [height + 2 * sprite.gutter, width + 2 * sprite.gutter];
    const sheetWidth = Math.min(sprite.columns, count) * cellWidth;
    const sheetHeight = Math.ceil(count / sprite.columns) * cellHeight;
    const x = (within % sprite.columns) * cellWidth + sprite.gutter;
    const y = Math.floor(within / sprite.columns) * cellHeight + sprite.gutter;
    const at = (offset, all, part) => (all > part ? (100 * offset) / (all - part) : 0);
    node.style.cssText =
      `--w:${width};--h:${height};` +
      `background-image:url("${home}${sprite.files[file]}"),var(--hatch);` +
      `background-size:${(100 * sheetWidth) / width}% ${(100 * sheetHeight) / height}%,8px 8px;` +
      `background-position:${at(x, sheetWidth, width)}% ${at(y, sheetHeight, height)}%,0 0`;
  }

  /** The part of the picture that a figure of a field frames; as `figures.frame_field` has it. */
  function frame([top, left, bottom, right], [height, width]) {
    const span = (first, last, length) => {
      const margin = Math.round(length / 8);
      return last - first <= length + 2 * margin ? [first, last] : [-margin, length + margin];
    };
    const [t, b] = span(top, bottom, height);
    const [l, r] = span(left, right, width);
    return [t, l, b, r];
  }

  function load(source) {
    return new Promise((resolve, reject) => {
      const script = el("script", { src: source });
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${source} could not be read`));
      document.head.append(script);
    });
  }

  /** The address behind #: "18&sort=-peak_max" is {unit: 18, sort: "-peak_max"}. */
  function address() {
    const [first, ...rest] = location.hash.slice(1).split("&").map(decodeURIComponent);
    const state = { unit: /^\d+$/.test(first) ? Number(first) : null };
    for (const pair of state.unit === null ? [first, ...rest] : rest) {
      const [key, ...value] = pair.split("=");
      if (key && value.length) state[key] = value.join("=");
    }
    return state;
  }

  function hash(state) {
    const pairs = Object.entries(state)
      .filter(([key, value]) => key !== "unit" && value !== null && value !== undefined && value !== "")
      .map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    if (state.unit !== null && state.unit !== undefined) pairs.unshift(String(state.unit));
    return "#" + pairs.join("&");
  }

  const keys = {};
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.getElementById("help").open) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing && event.key !== "Escape") return;
    if (typing) event.target.blur();
    else if (keys[event.key] && keys[event.key](event) !== false) event.preventDefault();
  });

  function help() {
    const dialog = document.getElementById("help");
    if (!dialog.open) dialog.showModal();
  }
  keys["?"] = help;
  for (const button of document.querySelectorAll("[data-help]")) button.addEventListener("click", help);
  document.getElementById("help").addEventListener("click", (event) => {
    if (event.target === event.currentTarget) event.currentTarget.close();
  });

  const record = atlas.records.find((one) => one.slug === body.dataset.record);
  const site = record && record.sites.find((one) => one.slug === body.dataset.site);
  return { atlas, root, record, site, el, number, shown, tile, frame, load, address, hash, keys };
})();
