"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const main = document.getElementById("main");
  const PER_PAGE = 100;

  // Text from the cloud only ever becomes a text node: nothing in it is parsed as markup.
  const node = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "onclick" || key === "oninput") made[key] = value;
      else if (value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((one) => one !== "" && one !== null && one !== undefined));
    return made;
  };
  const shape = (name, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  // Names may be written from right to left; they must not turn what stands around them.
  const name = (text) => node("bdi", {}, text);
  const number = (value) => value.toLocaleString("en-US");
  const when = (text) => (text ? node("time", { datetime: text }, text.slice(0, 16).replace("T", " ") + " UTC") : "never");
  const link = (url, text) => (/^https:\/\//.test(url || "") ? node("a", { href: url, rel: "noreferrer" }, text) : "");
  const TONE = { covered: "ok", pending: "wait", deferred: "wait", manual: "ask", failed: "bad", excluded: "off", ok: "ok", degraded: "ask", unreachable: "bad", refused: "bad", not_run: "wait", paused: "off" };

  const copyButton = (text, label) => {
    const button = node("button", { type: "button", "aria-label": `Copy ${label}` }, "Copy");
    button.onclick = async () => {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // A page that was opened from disk may not reach the clipboard that way.
        const area = node("textarea", {}, text);
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    };
    return button;
  };

  const ago = (milliseconds) => {
    const minutes = Math.max(0, Math.round(milliseconds / 60000));
    if (minutes < 120) return `${minutes} minutes`;
    const hours = Math.round(minutes / 60);
    return hours < 48 ? `${hours} hours` : `${Math.round(hours / 24)} days`;
  };

  const showAge = () => {
    const shown = document.getElementById("age");
    const parts = data.clouds.map((cloud) => {
      // A demonstration's clock may be virtual: its age is by the time at which it ended.
      const old = (cloud.now ? Date.parse(cloud.now) : Date.now()) - Date.parse(cloud.updated_at || 0);
      const late = cloud.interval_s > 0 && old > 2 * cloud.interval_s * 1000;
      return { text: cloud.updated_at ? `${cloud.title}: state is ${ago(old)} old${late ? ", at least two runs were missed" : ""}` : `${cloud.title}: no run yet`, late };
    });
    shown.textContent = parts.map((one) => one.text).join(" · ");
    shown.classList.toggle("old", parts.some((one) => one.late));
  };

  const needsYou = (cloud) => {
    if (!cloud.must_do.length) return "";
    const items = cloud.must_do.map((one) =>
      node("div", { class: "item ask" },
        node("strong", {}, name(one.what || one.code)),
        node("p", {}, name(one.scope_name || one.scope), " ", one.scope_name ? node("code", {}, one.scope) : "", one.count > 1 ? ` and ${number(one.count - 1)} more` : "", ` · ${one.code}`),
        node("ol", {}, ...one.steps.map((step) => node("li", {}, node("span", { class: "step" }, step), " ", copyButton(step, "this step")))),
        link(one.url, "Open in the console"), one.url && one.runbook ? " · " : "", link(one.runbook, `Runbook: ${one.code}`)));
    return node("section", { "aria-label": `What needs you on ${cloud.title}` }, node("h3", {}, `Needs you (${number(cloud.must_do.length)})`), ...items);
  };

  const failing = (cloud) => {
    if (!cloud.failing.length) return "";
    const items = cloud.failing.map((one) =>
      node("div", { class: "item bad" },
        node("strong", {}, `${one.code} (${number(one.count)})`),
        node("p", {}, name(one.message)),
        node("p", {}, "What to do: ", name(one.remedy)),
        link(one.runbook, `Runbook: ${one.code}`),
        one.examples.length ? node("p", { class: "muted" }, "For example ", ...one.examples.flatMap((id, at) => [at ? ", " : "", node("code", {}, id)])) : ""));
    return node("section", { "aria-label": `What fails on ${cloud.title}` }, node("h3", {}, "Failing"), ...items);
  };

  const excluded = (cloud) => {
    if (!cloud.excluded.length) return "";
    return node("section", {}, node("h3", {}, "Excluded"),
      node("ul", {}, ...cloud.excluded.map((one) => node("li", {}, `${one.reason}: ${number(one.count)}`, one.examples.length ? ` (${one.examples.join(", ")}${one.count > one.examples.length ? ", …" : ""})` : ""))));
  };

  // One chart of the runs over time; `lines` are [key of a run, class], `label` says the newest value in words.
  const chart = (runs, lines, caption, label) => {
    const width = 640, height = 160, left = 44, bottom = 24;
    const most = Math.max(1, ...runs.flatMap((run) => lines.map(([key]) => run[key])));
    const begun = Date.parse(runs[0].at), span = Math.max(1, Date.parse(runs[runs.length - 1].at) - begun);
    const x = (run) => left + ((Date.parse(run.at) - begun) / span) * (width - left - 8);
    const y = (value) => 8 + (1 - value / most) * (height - bottom - 8);
    const path = (key) => runs.map((run, at) => `${at ? "L" : "M"}${x(run).toFixed(1)} ${y(run[key]).toFixed(1)}`).join("");
    const last = runs[runs.length - 1];
    const drawn = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label(last)}; the line shows the ${runs.length} last runs` });
    for (const value of [0, most]) {
      drawn.append(shape("line", { class: "axis", x1: left, x2: width - 8, y1: y(value), y2: y(value) }));
      drawn.append(shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, number(Math.round(value))));
    }
    drawn.append(shape("text", { x: left, y: height - 6 }, runs[0].at.slice(0, 10)));
    drawn.append(shape("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, last.at.slice(0, 10)));
    drawn.append(...lines.map(([key, kind]) => shape("path", { class: kind, d: path(key) })));
    return node("figure", { style: "margin:0" }, node("figcaption", { class: "muted" }, caption), drawn);
  };

  const trend = (cloud) => {
    const runs = cloud.runs.slice().reverse();
    const judged = runs.filter((run) => run.active > 0), dated = runs.filter((run) => typeof run.freshness_lag_h === "number");
    return node("div", {},
      judged.length < 2 ? "" : chart(judged, [["active", "active"], ["covered", "covered"]], "Covered (line) of active (dashes), by run",
        (run) => `${number(run.covered)} of ${number(run.active)} covered in the last run`),
      dated.length < 2 ? "" : chart(dated, [["freshness_lag_h", "covered"]], "Freshness lag in hours: how long ago the data of the slowest scope arrived, by run",
        (run) => `The newest data of the slowest scope was ${number(Math.round(run.freshness_lag_h))} hours old in the last run`));
  };

  const dollars = (value) => `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;

  const cost = (cloud) => {
    if (!cloud.cost) return "";
    const { usd, items, runs, counted, prices } = cloud.cost;
    const rows = items.map(([what, value, price]) => node("tr", {}, node("td", {}, what), node("td", {}, price), node("td", { class: "number" }, dollars(value))));
    return node("section", { "aria-label": `What this deployment costs on ${cloud.title}` }, node("h3", {}, `This deployment costs about ${dollars(usd)} a month`),
      node("p", { class: "muted" }, `Estimated from the calls, seconds and bytes of the last ${number(counted)} runs, for ${number(runs)} runs a month, at list prices of ${prices} and with the module's default memory and alarms. Without free tiers, discounts, taxes, and the exported data itself.`),
      node("details", {}, node("summary", {}, "By item"),
        node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Costs on ${cloud.title} by item` }, node("table", {},
          node("thead", {}, node("tr", {}, ...["Item", "List price", "A month"].map((text, at) => node("th", { scope: "col", class: at === 2 ? "number" : "" }, text)))),
          node("tbody", {}, ...rows)))));
  };

  const runs = (cloud) => {
    if (!cloud.runs.length) return "";
    const rows = cloud.runs.slice(0, 10).map((run) =>
      node("tr", {},
        node("td", {}, when(run.at)),
        node("td", {}, node("span", { class: TONE[run.status] || "bad" }, run.status)),
        node("td", { class: "number" }, `${number(run.covered)} / ${number(run.active)}`),
        node("td", {}, run.changes.join(", ") || "—")));
    return node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Runs on ${cloud.title}` }, node("table", {}, node("caption", {}, "Last runs and what they changed"),
      node("thead", {}, node("tr", {}, ...["Began", "Status", "Covered", "Changed"].map((text, at) => node("th", { scope: "col", class: at === 2 ? "number" : "" }, text)))),
      node("tbody", {}, ...rows)));
  };

  const [ID, NAME, CLASS, CODE, DATA, MONTHS] = [0, 1, 2, 3, 4, 5];

  // One letter a month: 0 lost, + from before the export and to be filled, 1 data, ? not looked at, - none expected. The
  // same is said in words for screen readers.
  const MARKS = { 0: ["missing", "hole"], "+": ["can be filled", "fill"], 1: ["data", "has"], "?": ["not looked at yet", "unseen"], "-": ["none expected", ""] };
  const spans = (months) => {
    const found = [];
    for (const at of months) {
      const last = found[found.length - 1];
      if (last && last[1] === at - 1) last[1] = at;
      else found.push([at, at]);
    }
    return found;
  };
  const monthCells = (cloud, text, label) => {
    const places = [...text].map((_, at) => at);
    const said = Object.keys(MARKS).flatMap((mark) => {
      const ranges = spans(places.filter((at) => text[at] === mark));
      const months = ranges.map(([from, to]) => (from === to ? cloud.months[from] : `${cloud.months[from]} to ${cloud.months[to]}`));
      return months.length && mark !== "-" ? [`${MARKS[mark][0]}: ${months.join(", ")}`] : [];
    });
    const cells = places.map((at) => node("span", { class: MARKS[text[at]]?.[1], title: `${cloud.months[at]}: ${MARKS[text[at]]?.[0]}` }));
    return node("span", { class: "months", role: "img", "aria-label": `${label}: ${said.join("; ") || "no month is expected"}` }, ...cells);
  };
  const legend = (cloud) =>
    node("p", { class: "muted legend" }, `Months ${cloud.months[0]} to ${cloud.months[cloud.months.length - 1]}: `,
      ...Object.values(MARKS).flatMap(([text, kind]) => [node("span", { class: "months", "aria-hidden": "true" }, node("span", { class: kind })), ` ${text}  `]));

  const scopesTable = (cloud, index) => {
    const rows = cloud.scopes;
    // Lower case once: a filter then compares texts only.
    const labels = cloud.labels || [], labeled = labels.length > 0; // a page of an older function has none
    const labelsOf = (at) => (labeled ? cloud.scope_labels[at] : []).map((one) => labels[one]);
    const texts = rows.map((row, at) => [row[ID], row[NAME], row[CLASS], row[CODE], ...labelsOf(at)].join(" ").toLowerCase());
    let order = rows.map((_, at) => at), page = 0, sortedBy = -1, ascending = true;
    const classes = [...new Set(rows.map((row) => row[CLASS]))].sort();
    const search = node("input", { type: "search", id: `search-${index}`, autocomplete: "off" });
    const state = node("select", { id: `state-${index}` }, node("option", { value: "" }, "all"), ...classes.map((one) => node("option", { value: one }, one)));
    const heat = cloud.months.length > 0;
    const holes = node("input", { type: "checkbox", id: `holes-${index}` });
    const body = node("tbody"), count = node("p", { role: "status" });
    const before = node("button", { type: "button" }, "Previous"), after = node("button", { type: "button" }, "Next");
    let shown = order;
    const draw = () => {
      const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
      page = Math.min(page, pages - 1);
      body.replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map((at) => {
        const row = rows[at];
        return node("tr", {},
          node("td", {}, name(row[NAME] || row[ID])),
          node("td", {}, node("code", {}, row[ID])),
          node("td", {}, node("span", { class: TONE[row[CLASS]] || "off" }, row[CLASS]), row[CODE] ? ` (${row[CODE]})` : ""),
          node("td", {}, row[DATA] ? node("time", { datetime: row[DATA] }, row[DATA]) : "—"),
          labeled ? node("td", { class: "muted" }, ...labelsOf(at).flatMap((one, place) => [place ? " · " : "", name(one)])) : "",
          heat ? node("td", {}, row[MONTHS] ? monthCells(cloud, row[MONTHS], row[NAME] || row[ID]) : "—") : "");
      }));
      count.textContent = `${number(shown.length)} of ${number(rows.length)} ${cloud.scopes_word}, page ${page + 1} of ${pages}`;
      before.disabled = page === 0;
      after.disabled = page >= pages - 1;
    };
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = state.value;
      shown = order.filter((at) => (!wanted || rows[at][CLASS] === wanted) && (!holes.checked || /[0+]/.test(rows[at][MONTHS])) && words.every((word) => texts[at].includes(word)));
      page = 0;
      draw();
    };
    search.oninput = apply;
    state.oninput = apply;
    holes.oninput = apply;
    before.onclick = () => { page -= 1; draw(); };
    after.onclick = () => { page += 1; draw(); };
    const columns = [[NAME, "Name"], [ID, "Id"], [CLASS, "State"], [DATA, "Last data"]];
    const heads = columns.map(([column, text]) => {
      const head = node("th", { scope: "col" });
      head.append(node("button", { type: "button", onclick: () => {
        ascending = sortedBy === column ? !ascending : true;
        sortedBy = column;
        order = order.slice().sort((one, other) => (rows[one][column] < rows[other][column] ? -1 : rows[one][column] > rows[other][column] ? 1 : one - other) * (ascending ? 1 : -1));
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        apply();
      } }, text));
      return head;
    });
    draw();
    return node("section", { "aria-label": `All ${cloud.scopes_word}` }, node("h3", {}, `All ${cloud.scopes_word}`),
      node("div", { class: "tools" },
        node("label", { for: `search-${index}` }, "Search", search),
        node("label", { for: `state-${index}` }, "State", state),
        heat ? node("label", { for: `holes-${index}` }, "Months missing", holes) : "",
        before, after),
      heat ? legend(cloud) : "",
      cloud.scopes_with_more_labels ? node("p", { class: "muted" }, `${number(cloud.scopes_with_more_labels)} ${cloud.scopes_word} have more labels than fit on this page.`) : "",
      count,
      node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table of ${cloud.scopes_word} on ${cloud.title}` }, node("table", {}, node("thead", {}, node("tr", {}, ...heads, labeled ? node("th", { scope: "col" }, "Labels") : "", heat ? node("th", { scope: "col" }, "Months") : "")), body)));
  };

  // What asks for something stands on the left; where there is nothing such, the charts do.
  const columns = (cloud) => {
    const asks = [needsYou(cloud), failing(cloud)].filter(Boolean), rest = [runs(cloud), cost(cloud)];
    const [left, right] = asks.length ? [[...asks, excluded(cloud)], [trend(cloud), ...rest]] : [[excluded(cloud), trend(cloud)], rest];
    return node("div", { class: "grid" }, node("div", {}, ...left), node("div", {}, ...right));
  };

  const [T_ID, T_NAME, T_STATUS, T_COVERED, T_ACTIVE, T_ENDED, T_CODE, T_TEXT, T_REMEDY, T_LABELS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

  // The tenants by the values of one label: how many there are, how many are not ok, and what is covered.
  const groupsTable = (cloud, label, only, choose) => {
    const groups = new Map();
    for (const row of cloud.tenants) {
      const found = row[T_LABELS].map((one) => cloud.labels[one]).find((one) => one.startsWith(`${label}=`)) || "";
      const group = groups.get(found) || { total: 0, wrong: 0, covered: 0, active: 0 };
      group.total += 1;
      group.wrong += row[T_STATUS] === "ok" || row[T_STATUS] === "paused" ? 0 : 1;
      group.covered += row[T_COVERED];
      group.active += row[T_ACTIVE];
      groups.set(found, group);
    }
    const rows = [...groups].sort(([one], [other]) => (one < other ? -1 : 1)).map(([value, group]) =>
      node("tr", {},
        node("td", {}, value ? node("button", { type: "button", "aria-pressed": String(value === only), onclick: () => choose(value) }, name(value.slice(label.length + 1))) : "without it"),
        node("td", { class: "number" }, number(group.total)),
        node("td", { class: "number" }, group.wrong ? node("span", { class: "bad" }, number(group.wrong)) : "0"),
        node("td", { class: "number" }, `${number(group.covered)} / ${number(group.active)}`)));
    return node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Tenants by ${label}` }, node("table", {},
      node("thead", {}, node("tr", {}, ...[label, "Tenants", "Not ok", "Covered"].map((text, at) => node("th", { scope: "col", class: at ? "number" : "" }, text)))),
      node("tbody", {}, ...rows)));
  };

  const tenantDetails = (cloud, row) =>
    node("td", { colspan: "6" },
      row[T_CODE] ? node("p", {}, node("strong", {}, row[T_CODE]), " ", name(row[T_TEXT])) : node("p", {}, "Nothing fails in its last run."),
      row[T_REMEDY] ? node("p", {}, "What to do: ", name(row[T_REMEDY])) : "",
      ...["status", "page"].map((verb) => `tailpipe-exports ${verb} ${cloud.cloud} --tenant ${row[T_ID]}`).map((command) =>
        node("p", {}, node("code", {}, command), " ", copyButton(command, "this command"))));

  const tenantsSection = (cloud, index) => {
    const rows = cloud.tenants, labelsOf = (row) => row[T_LABELS].map((one) => cloud.labels[one]);
    const texts = rows.map((row) => [row[T_ID], row[T_NAME], row[T_STATUS], row[T_CODE], ...labelsOf(row)].join(" ").toLowerCase());
    const search = node("input", { type: "search", id: `search-${index}`, autocomplete: "off" });
    const statuses = [...new Set(rows.map((row) => row[T_STATUS]))].sort();
    const state = node("select", { id: `state-${index}` }, node("option", { value: "" }, "all"), ...statuses.map((one) => node("option", { value: one }, one.replace("_", " "))));
    const names = [...new Set(cloud.labels.map((one) => one.split("=", 1)[0]))].sort();
    const group = node("select", { id: `group-${index}` }, node("option", { value: "" }, "none"), ...names.map((one) => node("option", { value: one }, one)));
    const before = node("button", { type: "button" }, "Previous"), after = node("button", { type: "button" }, "Next");
    const body = node("tbody"), count = node("p", { role: "status" }), grouped = node("div");
    let shown = [], page = 0, open = -1, only = "";
    const draw = () => {
      const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
      page = Math.min(page, pages - 1);
      body.replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).flatMap((at) => {
        const row = rows[at];
        const made = node("tr", {},
          node("td", {}, name(row[T_NAME] || row[T_ID])),
          node("td", {}, node("code", {}, row[T_ID])),
          node("td", {}, node("span", { class: TONE[row[T_STATUS]] || "bad" }, row[T_STATUS].replace("_", " ")), row[T_CODE] ? ` (${row[T_CODE]})` : ""),
          node("td", { class: "number" }, row[T_ACTIVE] ? `${number(row[T_COVERED])} / ${number(row[T_ACTIVE])}` : "—"),
          node("td", {}, when(row[T_ENDED])),
          node("td", {}, node("button", { type: "button", "aria-expanded": String(open === at), "aria-label": `Details of ${row[T_NAME] || row[T_ID]}`, onclick: () => { open = open === at ? -1 : at; draw(); } }, "Details")));
        return open === at ? [made, node("tr", {}, tenantDetails(cloud, row))] : [made];
      }));
      count.textContent = `${number(shown.length)} of ${number(rows.length)} tenants, page ${page + 1} of ${pages}`;
      before.disabled = page === 0;
      after.disabled = page >= pages - 1;
    };
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = state.value;
      shown = rows.map((_, at) => at).filter((at) => (!wanted || rows[at][T_STATUS] === wanted) && (!only || labelsOf(rows[at]).includes(only)) && words.every((word) => texts[at].includes(word)));
      page = 0;
      open = -1;
      draw();
    };
    const choose = (value) => { only = only === value ? "" : value; regroup(); apply(); };
    const regroup = () => grouped.replaceChildren(...(group.value ? [groupsTable(cloud, group.value, only, choose)] : []));
    search.oninput = apply;
    state.oninput = apply;
    group.oninput = () => { only = ""; regroup(); apply(); };
    before.onclick = () => { page -= 1; draw(); };
    after.onclick = () => { page += 1; draw(); };
    group.value = names.includes(cloud.group_by) ? cloud.group_by : "";
    regroup();
    apply();
    const round = cloud.round;
    return node("section", { "aria-labelledby": `cloud-${index}` },
      node("h2", { id: `cloud-${index}` }, cloud.title),
      node("p", { class: `sentence ${cloud.tone}` }, cloud.sentence),
      node("p", { class: "muted" }, round ? node("span", {}, "last round ", round.status, " at ", when(round.ended_at), ` · took ${number(Math.round(round.duration_s))} s`) : "no round has ended yet"),
      node("div", { class: "tools" },
        node("label", { for: `search-${index}` }, "Search", search),
        node("label", { for: `state-${index}` }, "Status", state),
        names.length ? node("label", { for: `group-${index}` }, "Group by", group) : "",
        before, after),
      grouped,
      count,
      node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Tenants on ${cloud.title}` }, node("table", {},
        node("thead", {}, node("tr", {}, ...["Name", "Id", "Status", "Covered", "Last run", "Details"].map((text, at) => node("th", { scope: "col", class: at === 3 ? "number" : "" }, text)))),
        body)));
  };

  main.replaceChildren(...data.clouds.map((cloud, index) =>
    cloud.tenants ? tenantsSection(cloud, index) : node("section", { "aria-labelledby": `cloud-${index}` },
      node("h2", { id: `cloud-${index}` }, cloud.title),
      node("p", { class: `sentence ${cloud.tone}` }, cloud.sentence),
      node("p", { class: "muted" }, cloud.owner ? node("span", {}, name(cloud.owner), " · ") : "", "last run ", when(cloud.updated_at), cloud.next_run ? node("span", {}, " · next ", when(cloud.next_run)) : ""),
      columns(cloud),
      scopesTable(cloud, index))));
  showAge();
  setInterval(showAge, 60000);
})();
