"use strict";

/* The whole page: everything is drawn after every change of the state. */
(() => {
  const { $, data } = Page;
  const { html } = Drawing;
  const PANELS = [StepPanel, VerdictPanel, RecipePanel, FigureTable, OwnPanel];

  Page.draw = () => {
    PicturePanel.draw();
    for (const panel of PANELS) panel.draw();
    Address.write();
    Values.trainLater();
  };

  /* Brings a section into view, and the keyboard there. */
  Page.show = (id) => {
    $(id).scrollIntoView();
    $(id).focus({ preventScroll: true });
  };

  $("yours-words").textContent = data.words.yours;
  $("bug-words").textContent = data.words.bug;
  $("more-words").append(
    ...["unsettled", "slip", "right"]
      .flatMap((key) => data.words[key].split("\n"))
      .filter(Boolean)
      .map((text) => html("p", {}, text)),
  );
  $("sources").textContent = Object.entries(data.sources)
    .map(([key, text]) => `${key[0].toUpperCase()}${key.slice(1)}: ${text}.`)
    .join(" ");

  for (const part of [PicturePanel, Address, ...PANELS]) part.listen();
  $("network").addEventListener("click", (event) => {
    const target = event.target.closest("[data-step]");
    if (target) Page.go(target.dataset.step);
  });
  for (const link of document.querySelectorAll("[data-skip]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      Page.show(link.dataset.skip);
    });
  }
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));

  Address.read(location.hash.slice(1));
  Page.draw();
})();
