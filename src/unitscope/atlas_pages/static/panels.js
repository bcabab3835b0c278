// What the chapters beyond the survey add to sheets and unit pages. Each panel's script calls Panels.add once.
"use strict";

const Panels = (() => {
  const all = [];

  /**
   * `name` is the key under which the panel's data come. Any of:
   *   unit(data, channel, view)  what the unit page shows, a node or null; view.home is the folder of its sprites, view.one the record,
   *                              view.cut(stimulus) a node with the photograph's patch
   *   across(views)              what the unit page shows above all networks' columns, of one channel in all of them
   *   ways(data)                 further ways of showing the units of a sheet: [[key, label, sprite, meaning], ...]
   *   tint(data, channel)        a CSS color for the frame of the unit's tile in the sheet, or null
   *   mark(data, channel)        what the unit's tile in the sheet says when one points at it, or null
   *   site(data)                 what stands below the sheet, a node or null
   */
  function add(name, panel) {
    all.push({ name, unit: () => null, across: () => null, ways: () => [], tint: () => null, mark: () => null, site: () => null, ...panel });
  }

  const shown = (site) => all.filter(({ name }) => site.panels[name] !== undefined);
  const units = (site, channel, view) => shown(site).map((each) => each.unit(site.panels[each.name], channel, view));
  const across = (views) => all.filter(({ name }) => views.some(({ data }) => data.panels[name] !== undefined)).map((each) => each.across(views.filter(({ data }) => data.panels[each.name] !== undefined)));
  const ways = (site) => shown(site).flatMap((each) => each.ways(site.panels[each.name]));
  const tint = (site, channel) => shown(site).reduce((color, each) => color ?? each.tint(site.panels[each.name], channel), null);
  const marks = (site, channel) => shown(site).map((each) => each.mark(site.panels[each.name], channel)).filter(Boolean);
  const sites = (site) => shown(site).map((each) => each.site(site.panels[each.name])).filter(Boolean);

  return { add, units, across, ways, tint, marks, sites };
})();
