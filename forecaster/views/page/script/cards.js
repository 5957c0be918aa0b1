// The largest tracks.

import { thumbnail } from "./chart.js";
import { byId, h } from "./dom.js";
import { compact, counted, share, text } from "./numbers.js";
import { summary } from "./summary.js";
import { link, rows, seriesOf, totalOf } from "./tracks.js";

const LARGEST = 12;

/** @param {number} i */
const streamsOf = (i) => rows.total[i] ?? 0;

/**
 * @param {number} i
 */
function card(i) {
  const part = `${share(streamsOf(i), summary.total)} in ${counted(rows.months[i] ?? 0, "month")}`;
  const stale = rows.state[i] === "stale" ? [", ", h("span", { class: "state-stale" }, "stale")] : null;
  return h(
    "a",
    { class: "card", href: link(i) },
    h("h3", {}, `Track ${rows.track[i]}`),
    h("p", {}, `Artist ${text(rows.artist[i])}`),
    h("p", { class: "big", title: `${totalOf(i)} streams` }, compact(rows.total[i])),
    h("p", {}, part, stale),
    thumbnail(seriesOf(i, 2), 240, 56, true),
  );
}

export function drawCards() {
  const largest = rows.total
    .map((_, i) => i)
    .filter((i) => rows.total[i] != null)
    .sort((a, b) => streamsOf(b) - streamsOf(a) || a - b)
    .slice(0, LARGEST);
  byId("largest").hidden = !largest.length;
  byId("cards").replaceChildren(...largest.map((i) => h("li", {}, card(i))));
}
