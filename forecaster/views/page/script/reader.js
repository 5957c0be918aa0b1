// Reads a chart with the pointer and the arrow keys.

import { h, s } from "./dom.js";

/**
 * What can be read: a place, its heading and the lines below it.
 *
 * @typedef {{ place: number, title: string, says: string[] }} Stop
 */

/**
 * The cursor and the bubble that say what is where.
 *
 * @param {HTMLElement} box
 * @param {SVGElement} svg
 * @param {Stop[]} stops
 */
export function readerOf(box, svg, stops) {
  const cursor = s("line", { class: "cursor", visibility: "hidden" });
  const bubble = h("div", { class: "tip", role: "status", hidden: true });
  box.append(bubble);
  let at = -1;
  let drawn = 1;
  let x = (/** @type {number} */ place) => place;

  function hide() {
    at = -1;
    bubble.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  }

  /** @param {number} index */
  function read(index) {
    at = Math.min(Math.max(index, 0), stops.length - 1);
    const { place, title, says } = stops[at];
    bubble.replaceChildren(h("b", {}, title), ...says.map((line) => h("div", {}, line)));
    bubble.hidden = false;
    const [width, own] = [box.clientWidth, bubble.offsetWidth];
    const middle = (x(place) * width) / drawn;
    const beside = middle > width / 2 ? middle - own - 10 : middle + 10;
    bubble.style.left = `${Math.max(0, Math.min(beside, width - own))}px`;
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, `${x(place)}`);
    cursor.setAttribute("visibility", "visible");
  }

  svg.addEventListener("pointermove", (event) => {
    const pointer = ((event.clientX - svg.getBoundingClientRect().left) * drawn) / box.clientWidth;
    const far = stops.map(({ place }) => Math.abs(x(place) - pointer));
    read(far.reduce((best, distance, i) => (distance < far[best] ? i : best), 0));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const last = stops.length - 1;
    const to = { ArrowLeft: at < 0 ? last : at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    read(to);
  });

  /**
   * @param {(place: number) => number} placing
   * @param {number} width
   * @param {number} top
   * @param {number} floor
   */
  function placed(placing, width, top, floor) {
    [x, drawn] = [placing, width];
    cursor.setAttribute("y1", `${top}`);
    cursor.setAttribute("y2", `${floor}`);
    hide();
  }
  return { cursor, placed };
}
