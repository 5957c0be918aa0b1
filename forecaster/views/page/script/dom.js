// Builds elements. Text is always text.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | null | undefined} Leaf */
/** @typedef {Leaf | Leaf[] | Leaf[][]} Child */

/**
 * The element of the template with this id.
 *
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {abstract new () => T} [kind]
 * @returns {T}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof (kind ?? HTMLElement))) throw new Error(`The page has no ${id}.`);
  return /** @type {T} */ (found);
}

/**
 * @template {Element} T
 * @param {T} element
 * @param {Record<string, unknown>} attributes
 * @param {Child[]} children
 * @returns {T}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.flat(2).filter((child) => child != null));
  return element;
}

/**
 * An element of HTML. Attributes named `on...` are listeners; false and null leave an attribute out.
 *
 * @template {keyof HTMLElementTagNameMap} N
 * @param {N} name
 * @param {Record<string, unknown>} [attributes]
 * @param {Child[]} children
 */
export const h = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

/**
 * An element of SVG.
 *
 * @template {keyof SVGElementTagNameMap} N
 * @param {N} name
 * @param {Record<string, unknown>} [attributes]
 * @param {Child[]} children
 */
export const s = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

/**
 * @param {string} words
 */
export const nothing = (words) => h("p", { class: "empty" }, words);

/**
 * A table of a chart's values, folded. The first column names the row, the others are numbers.
 *
 * @param {string[]} heads
 * @param {string[][]} rows
 */
export function valuesTable(heads, rows) {
  /** @param {number} column */
  const side = (column) => (column ? "right" : null);
  return h(
    "details",
    {},
    h("summary", {}, "Values as a table"),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Values" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            heads.map((head, i) => h("th", { scope: "col", class: side(i) }, head)),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map((row) =>
            h(
              "tr",
              {},
              row.map((cell, i) => h("td", { class: side(i) }, cell)),
            ),
          ),
        ),
      ),
    ),
  );
}
