"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const nodes = new Map(data.nodes.map((each) => [each.urn, each]));
  const KINDS = ["job", "op", "asset", "dataset", "check"];
  const PLURALS = { job: "Jobs", op: "Ops", asset: "Assets", dataset: "Datasets", check: "Checks" };
  const EDGES = {
    lineage: "data flow",
    same: "are the same thing",
    order: "order of ops",
    check: "is judged by",
    begins: "job begins with",
  };
  const MANY = 250;
  const LISTED = 60;
  const FAR = 0.33;
  const NAME = 34;
  const STRIPE = 5;
  const isStill = matchMedia("(prefers-reduced-motion: reduce)");
  const isDark = matchMedia("(prefers-color-scheme: dark)");

  // Elements: values only ever become text, never markup.

  function element(tag, options = {}, ...children) {
    const made = document.createElement(tag);
    const { className, text, on, ...attributes } = options;
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    if (on) made.addEventListener("click", on);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  // The drawing.

  const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
  const ruler = document.createElement("canvas").getContext("2d");

  function shortened(name) {
    if (name.length <= NAME) return name;
    return `${name.slice(0, NAME / 2 - 4)}…${name.slice(-(NAME / 2 + 3))}`;
  }

  function box(node) {
    ruler.font = `13px ${FONT}`;
    const lines = [shortened(node.name).replace(/\s/g, " "), node.note];
    const width = Math.max(...lines.map((each) => ruler.measureText(each).width));
    const whole = Math.ceil(Math.max(width, 60)) + 34;
    const edge = (100 * STRIPE) / whole;
    return { label: lines.join("\n"), width: whole, height: 46, stops: [0, edge, edge, 100] };
  }

  const boxes = new Map(data.nodes.map((each) => [each.urn, box(each)]));

  function arranged() {
    const graph = new dagre.graphlib.Graph({ multigraph: true });
    const ranker = nodes.size > MANY ? "tight-tree" : "network-simplex";
    graph.setGraph({ rankdir: "LR", nodesep: 18, edgesep: 12, ranksep: 70, ranker });
    for (const [urn, { width, height }] of boxes) graph.setNode(urn, { width, height });
    data.edges.forEach((each, index) => {
      graph.setEdge(each.source, each.target, {}, String(index));
    });
    dagre.layout(graph);
    return graph;
  }

  // The points at which an edge bends, as cytoscape wants them: along the line between its
  // ends, and off it.
  function bends(points, from, to) {
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = Math.hypot(dx, dy) || 1;
    const inner = points.slice(1, -1).map(({ x, y }) => [x - from.x, y - from.y]);
    return {
      weights: inner.map(([x, y]) => (x * dx + y * dy) / (length * length)),
      distances: inner.map(([x, y]) => (y * dx - x * dy) / length),
    };
  }

  function edgeElement(each, index, graph) {
    const [from, to] = [graph.node(each.source), graph.node(each.target)];
    const start = { x: from.x + from.width / 2, y: from.y };
    const end = { x: to.x - to.width / 2, y: to.y };
    const { points } = graph.edge(each.source, each.target, String(index));
    const { source, target, kind } = each;
    const bent = bends(points, start, end);
    return {
      group: "edges",
      data: { id: `edge ${index}`, source, target, kind, ...bent },
      classes: bent.weights.length ? `${kind} bent` : kind,
    };
  }

  function elements() {
    const graph = arranged();
    const drawn = data.nodes.map((each) => {
      const { x, y } = graph.node(each.urn);
      return {
        group: "nodes",
        data: { id: each.urn, kind: each.kind, ...boxes.get(each.urn) },
        position: { x, y },
        classes: `${each.kind} ${each.state === "failed" || each.state === "broken" ? "bad" : ""}`,
      };
    });
    return drawn.concat(data.edges.map((each, index) => edgeElement(each, index, graph)));
  }

  function hues(kind) {
    const [hue, surface] = [color(kind), color("surface")];
    return [
      {
        selector: `node.${kind}`,
        style: { "background-gradient-stop-colors": [hue, hue, surface, surface] },
      },
      {
        selector: `node.${kind}.far`,
        style: { "background-fill": "solid", "background-color": hue, "border-width": 0 },
      },
    ];
  }

  function look() {
    const wire = color("wire");
    return [
      {
        selector: "node",
        style: {
          shape: "round-rectangle",
          "corner-radius": 7,
          width: "data(width)",
          height: "data(height)",
          "background-fill": "linear-gradient",
          "background-gradient-direction": "to-right",
          "background-gradient-stop-positions": "data(stops)",
          "border-width": 1,
          "border-color": color("line"),
          label: "data(label)",
          color: color("text"),
          "font-family": FONT,
          "font-size": 13,
          "line-height": 1.25,
          "text-wrap": "wrap",
          "text-max-width": 600,
          "text-justification": "left",
          "text-valign": "center",
          "text-halign": "center",
          "text-margin-x": 3,
          "min-zoomed-font-size": 5,
          "overlay-opacity": 0,
        },
      },
      ...KINDS.flatMap(hues),
      { selector: "node.bad", style: { "border-color": color("bad"), "border-width": 2 } },
      {
        selector: "edge",
        style: {
          width: 1.5,
          "line-color": wire,
          "target-arrow-color": wire,
          "target-arrow-shape": "triangle",
          "arrow-scale": 0.9,
          "curve-style": "straight",
          "source-endpoint": "50% 0%",
          "target-endpoint": "-50% 0%",
          "overlay-opacity": 0,
        },
      },
      {
        selector: "edge.bent",
        style: {
          "curve-style": "round-segments",
          "edge-distances": "endpoints",
          "segment-weights": "data(weights)",
          "segment-distances": "data(distances)",
          "segment-radii": 24,
        },
      },
      { selector: "edge.order", style: { "line-style": "dashed" } },
      {
        selector: "edge.begins",
        style: { "line-style": "dotted", "target-arrow-shape": "none" },
      },
      {
        selector: "edge.same",
        style: {
          width: 4,
          "line-color": color("dataset"),
          "line-opacity": 0.45,
          "target-arrow-shape": "none",
        },
      },
      {
        selector: "edge.check",
        style: { "line-color": color("check"), "target-arrow-shape": "none" },
      },
      { selector: "edge.far", style: { width: 5 } },
      { selector: ".faded", style: { opacity: 0.18 } },
      { selector: ".hidden", style: { display: "none" } },
      {
        selector: "node.chosen",
        style: { "border-color": color("focus"), "border-width": 3, "z-index": 9 },
      },
      {
        selector: "edge.chosen",
        style: { "line-color": color("focus"), "target-arrow-color": color("focus"), width: 2.5 },
      },
      { selector: "node.chosen.far", style: { "border-width": 12 } },
      { selector: "edge.chosen.far", style: { width: 9 } },
    ];
  }

  const cy = cytoscape({
    container: byId("graph"),
    elements: elements(),
    style: look(),
    layout: { name: "preset" },
    autoungrabify: true,
    autounselectify: true,
    boxSelectionEnabled: false,
    minZoom: 0.03,
    maxZoom: 3,
    hideEdgesOnViewport: data.edges.length > 1500,
  });

  // From afar, labels can't be read: then the colours and lines are to be seen.
  let isFar = false;

  cy.on("zoom", () => {
    if (cy.zoom() < FAR === isFar) return;
    isFar = !isFar;
    cy.elements().toggleClass("far", isFar);
  });

  function fit() {
    const shown = cy.elements(":visible");
    if (shown.empty()) return;
    cy.fit(shown, 50);
    if (cy.zoom() > 1.15) {
      cy.zoom(1.15);
      cy.center(shown);
    }
  }

  function zoom(factor) {
    const { width, height } = byId("graph").getBoundingClientRect();
    cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: width / 2, y: height / 2 } });
  }

  function reveal(node) {
    const target = { center: { eles: node }, zoom: Math.max(cy.zoom(), 0.8) };
    if (isStill.matches) {
      cy.zoom(target.zoom);
      cy.center(node);
    } else {
      cy.stop().animate(target, { duration: 220 });
    }
  }

  function isCovered(node) {
    const { x1, y1, x2, y2 } = node.renderedBoundingBox();
    return x1 < 0 || y1 < 0 || x2 > cy.width() || y2 > cy.height();
  }

  // The facts of a node.

  function cell(value) {
    if (typeof value === "string") return document.createTextNode(value);
    if (value.url) {
      return element("a", {
        text: value.text, href: value.url, rel: "noreferrer noopener", target: "_blank",
      });
    }
    const known = nodes.get(value.urn);
    if (!known) return document.createTextNode(value.text);
    return element("button", {
      className: `to ${known.kind}`, type: "button", text: value.text, title: known.urn,
      on: () => choose(value.urn, { andReveal: true, andRead: true }),
    });
  }

  function list({ rows }) {
    const isPlain = rows.every(([value]) => typeof value === "string" && value.length < 60);
    const items = rows.map(([value]) => element("li", {}, cell(value)));
    return element("ul", { className: isPlain ? "plain" : "" }, ...items);
  }

  function table({ head, rows }) {
    const body = rows.map((row) =>
      element("tr", {}, ...row.map((value) => element("td", {}, cell(value)))));
    const names = element("tr", {}, ...head.map((text) => element("th", { text, scope: "col" })));
    const made = element("table", { className: head.length ? "" : "pairs" });
    if (head.length) made.append(element("thead", {}, names));
    made.append(element("tbody", {}, ...body));
    return element("div", { className: "scroll" }, made);
  }

  function section(each) {
    const bad = each.title === "Left out" ? "bad" : "";
    const isList = !each.head.length && each.rows[0].length === 1;
    return element("section", {},
      element("h3", { className: bad, text: each.title }), isList ? list(each) : table(each));
  }

  function sent(node) {
    if (!node.sent.length) {
      return element("section", {}, element("h3", { text: "Sent to DataHub" }),
        element("p", { className: "note", text: "Nothing. Other entities only refer to it." }));
    }
    const each = node.sent.map(({ change, aspect, body }) =>
      element("details", {},
        element("summary", { text: aspect }, element("small", { text: change.toLowerCase() })),
        element("pre", { text: JSON.stringify(body, null, 2) })));
    return element("section", {}, element("h3", { text: "Sent to DataHub" }), ...each);
  }

  function show(...content) {
    const panel = byId("panel");
    const width = panel.hidden;
    panel.replaceChildren(...content);
    panel.hidden = false;
    panel.scrollTop = 0;
    if (width) cy.resize();
  }

  function closer() {
    return element("button", {
      className: "close", type: "button", "aria-label": "Close", title: "Close (Esc)", text: "×",
      on: close,
    });
  }

  function describe(node) {
    const top = element("div", { className: "top" },
      element("span", { className: `chip ${node.kind}`, text: node.kind }));
    if (node.state) {
      top.append(element("span", { className: `state ${node.state}`, text: node.state }));
    }
    top.append(closer());
    const content = [top, element("h2", { text: node.name })];
    if (node.description) {
      content.push(element("p", { className: "description", text: node.description }));
    }
    show(...content, ...node.sections.map(section), sent(node));
  }

  function describeProblems() {
    const rows = data.problems.map(({ urn, aspect, reason }) => [
      nodes.has(urn) ? { text: nodes.get(urn).name, urn } : urn, aspect, reason,
    ]);
    const head = ["of", "aspect", "why"];
    show(element("div", { className: "top" }, closer()),
      section({ title: "Left out", head, rows }));
    byId("panel").focus();
  }

  // Choosing a node.

  let chosen = null;

  function choose(urn, { andReveal = false, andRead = false } = {}) {
    const node = cy.getElementById(urn);
    chosen = urn;
    cy.elements().removeClass("chosen faded");
    node.addClass("chosen");
    node.connectedEdges().addClass("chosen");
    cy.elements().not(node.closedNeighborhood()).addClass("faded");
    describe(nodes.get(urn));
    if (andReveal || isCovered(node)) reveal(node);
    if (andRead) byId("panel").focus();
    const { name, kind } = nodes.get(urn);
    const [before, after] = [node.incomers("node").length, node.outgoers("node").length];
    byId("said").textContent = `${kind} ${name}: ${before} before it, ${after} after it`;
  }

  function close() {
    const wasOpen = !byId("panel").hidden;
    chosen = null;
    byId("panel").hidden = true;
    cy.elements().removeClass("chosen faded");
    if (wasOpen) cy.resize();
    byId("graph").focus();
  }

  cy.on("tap", "node", (event) => choose(event.target.id()));
  cy.on("tap", (event) => {
    if (event.target === cy && chosen) close();
  });
  cy.on("mouseover", "node", (event) => {
    const { name, note } = nodes.get(event.target.id());
    const { x, y } = event.target.renderedPosition();
    byId("tip").textContent = `${name} · ${note}`;
    byId("tip").hidden = cy.zoom() > 0.55 && shortened(name) === name;
    byId("tip").style.left = `${Math.max(8, x - 60)}px`;
    byId("tip").style.top = `${y + event.target.renderedHeight() / 2 + 6}px`;
    byId("graph").style.cursor = "pointer";
  });
  cy.on("mouseout", "node", () => {
    byId("tip").hidden = true;
    byId("graph").style.cursor = "";
  });
  cy.on("pan zoom", () => {
    byId("tip").hidden = true;
  });

  // The keyboard: along the lines to the left and right, up and down among those beside.

  function nearest(candidates, from) {
    const { x, y } = from.position();
    return candidates.filter(":visible").min((each) =>
      Math.abs(each.position("y") - y) + Math.abs(each.position("x") - x) / 10).ele;
  }

  function beside(node, direction) {
    const { x, y } = node.position();
    return cy.nodes(":visible").filter((each) => {
      const isBeside = Math.abs(each.position("x") - x) < (each.width() + node.width()) / 2;
      return isBeside && (each.position("y") - y) * direction > 1;
    });
  }

  const ARROWS = {
    ArrowRight: (node) => node.outgoers("node"),
    ArrowLeft: (node) => node.incomers("node"),
    ArrowDown: (node) => beside(node, 1),
    ArrowUp: (node) => beside(node, -1),
  };

  function go(candidatesOf) {
    const first = cy.nodes(":visible").min((each) => each.position("x")).ele;
    const next = chosen ? nearest(candidatesOf(cy.getElementById(chosen)), cy.getElementById(chosen)) : first;
    if (next && next.nonempty()) choose(next.id(), { andReveal: true });
  }

  const DO = {
    in: () => zoom(1.3),
    out: () => zoom(1 / 1.3),
    fit,
  };
  const KEYS = { "+": DO.in, "=": DO.in, "-": DO.out, 0: DO.fit };

  byId("graph").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (ARROWS[event.key]) go(ARROWS[event.key]);
    else if (KEYS[event.key]) KEYS[event.key]();
    else if (event.key === "Enter" && chosen) byId("panel").focus();
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target === byId("search");
    if (event.key === "Escape" && (!isTyping || !byId("search").value)) close();
    if (event.key === "/" && !isTyping) {
      byId("search").focus();
      event.preventDefault();
    }
  });
  for (const button of document.querySelectorAll("#zoom button")) {
    button.addEventListener("click", () => DO[button.dataset.do]());
  }

  // The search.

  const SEARCHED = new Set(["Columns", "Tags", "Owners", "Properties"]);

  function searched(node) {
    const rows = node.sections.filter((each) => SEARCHED.has(each.title)).flatMap((each) => each.rows);
    const cells = rows.flat().map((each) => (typeof each === "string" ? each : each.text));
    return [node.name, node.urn, node.note, node.description, ...cells].join("\n").toLowerCase();
  }

  const texts = data.nodes.map((each) => [each, searched(each)]);

  function matches(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const found = texts.filter(([, text]) => words.every((word) => text.includes(word)));
    const has = (text) => words.every((word) => text.toLowerCase().includes(word));
    const rank = ([node]) => (has(node.name) ? 0 : has(`${node.name} ${node.note}`) ? 1 : 2);
    return found.sort((one, other) => rank(one) - rank(other)).map(([node]) => node);
  }

  function hit(node) {
    const button = element("button", {
      type: "button", on: () => pick(node), title: node.urn,
    }, element("span", { className: `dot ${node.kind}` }),
    element("span", { className: "name", text: node.name }),
    element("span", { className: "note", text: node.note }));
    return element("li", {}, button);
  }

  function pick(node) {
    const hue = legend.get(node.kind);
    if (hue && hue.getAttribute("aria-pressed") === "false") toggle(node.kind);
    byId("search").value = "";
    search();
    choose(node.urn, { andReveal: true, andRead: true });
  }

  function search() {
    const query = byId("search").value.trim();
    const found = query ? matches(query) : [];
    const items = found.slice(0, LISTED).map(hit);
    if (found.length > LISTED) {
      items.push(element("li", { className: "more", text: `and ${found.length - LISTED} more` }));
    }
    if (query && !found.length) {
      items.push(element("li", { className: "more", text: "No matches." }));
    }
    byId("found").replaceChildren(...items);
    byId("found").hidden = !query;
    byId("hits").textContent = query ? `${found.length} found` : "";
    if (query) {
      const urns = new Set(found.map((each) => each.urn));
      cy.elements().addClass("faded");
      cy.nodes().filter((each) => urns.has(each.id())).removeClass("faded");
    } else if (!chosen) {
      cy.elements().removeClass("faded");
    }
  }

  byId("search").addEventListener("input", search);
  document.querySelector(".search").addEventListener("keydown", (event) => {
    const buttons = [byId("search"), ...byId("found").querySelectorAll("button")];
    const place = buttons.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && buttons[place + step]) {
      buttons[place + step].focus();
      event.preventDefault();
    } else if (event.key === "Enter" && place === 0 && buttons[1]) {
      buttons[1].click();
    } else if (event.key === "Escape") {
      byId("search").value = "";
      search();
      if (chosen) choose(chosen);
    }
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".search")) byId("found").hidden = true;
  });

  // The legend, which also hides.

  const legend = new Map();

  function toggle(kind) {
    const button = legend.get(kind);
    const isShown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(isShown));
    cy.nodes(`.${kind}`).toggleClass("hidden", !isShown);
  }

  function drawLegend() {
    for (const kind of KINDS) {
      const count = data.nodes.filter((each) => each.kind === kind).length;
      if (!count) continue;
      const button = element("button", {
        type: "button", "aria-pressed": "true", title: `Show or hide ${PLURALS[kind].toLowerCase()}`,
        on: () => toggle(kind),
      }, element("span", { className: `dot ${kind}` }), PLURALS[kind],
      element("span", { className: "count", text: String(count) }));
      legend.set(kind, button);
      byId("legend").append(button);
    }
    const used = Object.keys(EDGES).filter((kind) => data.edges.some((each) => each.kind === kind));
    if (used.length) byId("legend").append(element("hr"));
    for (const kind of used) {
      byId("legend").append(
        element("span", { className: "edge" }, element("i", { className: kind }), EDGES[kind]));
    }
  }

  function drawHeader() {
    byId("title").textContent = data.title;
    byId("summary").append(...data.summary.map((text) => element("span", { text })));
    if (data.problems.length) {
      byId("summary").append(element("button", {
        type: "button", text: `${data.problems.length} left out`, on: describeProblems,
      }));
    }
  }

  drawHeader();
  drawLegend();
  byId("legend").hidden = !data.nodes.length;
  byId("nothing").hidden = data.nodes.length > 0;
  isDark.addEventListener("change", () => cy.style(look()));
  fit();
})();
