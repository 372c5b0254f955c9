// Draws every plot of the page from the JSON next to it, in the colours of the current theme, and redraws it when the
// theme changes or the page is printed (always light). The root element records how many plots were drawn.
(function () {
  "use strict";
  var root = document.documentElement;
  var canvases = Array.prototype.slice.call(document.querySelectorAll("[data-figure]"));
  // Text that came from files is never treated as a colour token.
  var TEXTS = { name: 1, text: 1, customdata: 1, ticktext: 1, hovertemplate: 1, legendgroup: 1 };
  var CONFIG = {
    responsive: true, displaylogo: false, displayModeBar: false,
  };
  var PRINT_WIDTH_PX = 680;
  var errors = 0;
  root.dataset.errors = "0";
  window.addEventListener("error", function () { errors += 1; root.dataset.errors = String(errors); });

  function colour(token) {
    var parts = /^@([a-z]+\d*)(?:\/([\d.]+))?$/.exec(token);
    if (!parts) { return token; }
    var hex = getComputedStyle(root).getPropertyValue("--" + parts[1]).trim();
    if (parts[2] === undefined) { return hex; }
    var value = parseInt(hex.slice(1), 16);
    return "rgba(" + (value >> 16) + "," + ((value >> 8) & 255) + "," + (value & 255) + "," + parts[2] + ")";
  }

  function themed(part, key) {
    if (typeof part === "string") { return TEXTS[key] ? part : colour(part); }
    if (Array.isArray(part)) { return part.map(function (item) { return themed(item, key); }); }
    if (part && typeof part === "object") {
      var copy = {};
      Object.keys(part).forEach(function (name) { copy[name] = key === "title" && name === "text" ? part[name] : themed(part[name], name); });
      return copy;
    }
    return part;
  }

  function draw(width) {
    var drawn = 0;
    return Promise.all(canvases.map(function (canvas) {
      var figure = themed(JSON.parse(document.getElementById(canvas.dataset.figure).textContent), "");
      if (width) { figure.layout.width = width; } else { figure.layout.autosize = true; }
      return window.Plotly.react(canvas, figure.data, figure.layout, CONFIG).then(function () { drawn += 1; });
    })).then(function () { root.dataset.plots = drawn + "/" + canvases.length; });
  }

  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { draw(); });
  var closed = [];
  window.addEventListener("beforeprint", function () {
    root.dataset.theme = "light";
    closed = Array.prototype.slice.call(document.querySelectorAll("details:not([open]):not(.links)"));
    closed.forEach(function (block) { block.open = true; });
    draw(PRINT_WIDTH_PX);
  });
  window.addEventListener("afterprint", function () {
    delete root.dataset.theme;
    closed.forEach(function (block) { block.open = false; });
    draw();
  });
})();
