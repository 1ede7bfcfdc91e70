(async () => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;

  // The plotting library travels compressed inside this file, so that the page needs no network.
  async function loadLibrary() {
    const packed = atob(document.getElementById("library").textContent.trim());
    const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.appendChild(script);
  }

  const draw = () => archgym.draw(figures);
  archgym.addSorting(document);
  archgym.setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches);
  await loadLibrary();
  archgym.addFilters(figures, draw);
  await draw();
  document.getElementById("theme").addEventListener("click", () => { archgym.setTheme(root.dataset.theme !== "dark"); draw(); });
  root.dataset.ready = "true";
})();
