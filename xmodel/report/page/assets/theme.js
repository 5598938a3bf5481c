/* Runs before the page is drawn, so that neither the other theme nor the other parts flash up. */
(() => {
  "use strict";

  const root = document.documentElement;
  root.classList.add("scripted");
  try {
    const theme = localStorage.getItem("xmodel-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {
    // Without storage the system's theme is used.
  }
})();
