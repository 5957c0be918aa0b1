// Light and dark: the system's, until the button is pressed; kept in memory only.

import { byId } from "./dom.js";

const systemDark = matchMedia("(prefers-color-scheme: dark)");

const isDark = () =>
  (document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";

function nameTheme() {
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
}

export function offerThemes() {
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  systemDark.addEventListener("change", nameTheme);
  nameTheme();
  byId("theme").hidden = false;
}
