/* The last script: the theme switch, the facts that fold, and the first part. */
(() => {
  "use strict";

  const button = document.getElementById("theme");
  const name = () => {
    const other = xmodel.isDark() ? "light" : "dark";
    button.textContent = xmodel.isDark() ? "☀" : "☾";
    button.setAttribute("aria-label", `Switch to the ${other} theme`);
    button.title = `Switch to the ${other} theme`;
  };
  button.addEventListener("click", () => xmodel.setTheme(xmodel.isDark() ? "light" : "dark"));
  xmodel.onTheme(name);
  name();
  // In a narrow window the facts under the title are folded; elsewhere there is nothing to fold them with.
  const about = document.getElementById("about");
  const narrow = matchMedia("(max-width: 640px)");
  const fold = () => (about.open = !narrow.matches);
  narrow.addEventListener("change", fold);
  fold();
  document.getElementById("skip").addEventListener("click", (event) => {
    // Its address is no part of the page, and would lead to the first one.
    event.preventDefault();
    document.getElementById("main").focus();
  });
  if (xmodel.run) xmodel.begin();
  else {
    const main = document.querySelector("main");
    const text = "data/run.js cannot be read: was the page's folder copied without it?";
    main.prepend(xmodel.el("p", { class: "failure", role: "alert", text }));
    document.documentElement.classList.remove("scripted");
  }
})();
