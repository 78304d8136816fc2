// Opens the page of all tenants in the Chromium at argv[2], uses it as people do, and prints what it saw as JSON.
"use strict";
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

const [, , executablePath, page] = process.argv;

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const seen = { dialogs: 0, errors: [], overflow: [], violations: [], filter_ms: [] };
  try {
    const tab = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
    tab.on("dialog", (dialog) => ((seen.dialogs += 1), dialog.dismiss()));
    tab.on("pageerror", (error) => seen.errors.push(String(error)));
    await tab.goto(page);
    await tab.evaluate(axe);
    const found = await tab.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    seen.violations = found.violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 200)}`);
    const count = tab.locator("section > p[role=status]").first();
    seen.all = await count.textContent();
    seen.groups = await tab.locator("table").first().locator("tbody tr").allTextContents();
    for (const width of [320, 1280, 3840]) {
      await tab.setViewportSize({ width, height: 900 });
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (wide > 0) seen.overflow.push(`${width}: ${wide} pixels too wide`);
    }
    for (const text of ["tenant-9", "unreachable", "no such tenant", ""]) {
      // From the input's event until the browser has laid the new rows out.
      const took = await tab.evaluate((value) => {
        const input = document.getElementById("search-0");
        const begun = performance.now();
        input.value = value;
        input.dispatchEvent(new Event("input"));
        document.body.getBoundingClientRect();
        return performance.now() - begun;
      }, text);
      seen.filter_ms.push(took);
    }
    await tab.selectOption("#state-0", "unreachable");
    seen.unreachable = await count.textContent();
    const details = tab.getByRole("button", { name: "Details of tenant-0" });
    await details.focus();
    await tab.keyboard.press("Enter");
    seen.details = await tab.locator("td[colspan]").first().innerText();
    await tab.selectOption("#state-0", "");
    await tab.getByRole("button", { name: "g1", exact: true }).click();
    seen.grouped = await count.textContent();
  } finally {
    await browser.close();
  }
  process.stdout.write(JSON.stringify(seen));
})();
