// Opens one page in the Chromium at argv[2], looks at it as people do, and prints what it saw as JSON.
"use strict";
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;

const [, , executablePath, page, shots] = process.argv;
const WIDTHS = [320, 480, 768, 1280, 1920, 3840];
const SEARCHES = ["9999", "team-12", "failed", "no such account", ""];

(async () => {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const seen = { requests: [], dialogs: 0, errors: [], overflow: [], violations: [], filter_ms: [] };
  try {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 900 } });
      const tab = await context.newPage();
      tab.on("request", (request) => seen.requests.push(request.url().slice(0, 60)));
      tab.on("dialog", (dialog) => ((seen.dialogs += 1), dialog.dismiss()));
      tab.on("pageerror", (error) => seen.errors.push(String(error)));
      tab.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
      await tab.goto(page);
      await tab.screenshot({ path: `${shots}/${colorScheme}.png` });
      await tab.evaluate(axe);
      const found = await tab.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      seen.violations.push(...found.violations.map((one) => `${colorScheme}: ${one.id}: ${one.nodes[0].html.slice(0, 200)}`));
      await context.close();
    }
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const tab = await context.newPage();
    await tab.goto(page);
    seen.headings = await tab.locator("h2").allTextContents();
    seen.sentences = await tab.locator(".sentence").allTextContents();
    seen.rows = await tab.locator("tbody tr").count();
    for (const width of WIDTHS) {
      await tab.setViewportSize({ width, height: 900 });
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (wide > 0) seen.overflow.push(`${width}: ${wide} pixels too wide`);
    }
    await tab.setViewportSize({ width: 1280, height: 900 });
    for (const text of SEARCHES) {
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
    await tab.focus("#search-0");
    await tab.keyboard.type("team-7");
    seen.filtered = await tab.locator("section p[role=status]").first().textContent();
    await tab.keyboard.press("Tab");
    await tab.keyboard.press("Tab");
    seen.focused = await tab.evaluate(() => (document.activeElement.labels?.[0] ?? document.activeElement).textContent);
    await tab.keyboard.press("Space");
    seen.holes = await tab.locator("section p[role=status]").first().textContent();
    seen.months = await tab.locator("#main tbody .months").first().getAttribute("aria-label");
    await tab.keyboard.press("Space");
    await tab.fill("#search-0", "");
    await tab.fill("#search-0", "corp-3 env: prod");
    seen.labeled = await tab.locator("section p[role=status]").first().textContent();
    await tab.fill("#search-0", "");
    await tab.selectOption("#state-0", "failed");
    seen.failed = await tab.locator("section p[role=status]").first().textContent();
    await tab.selectOption("#state-0", "");
    const name = tab.getByRole("button", { name: "Name", exact: true }).first();
    await name.click();
    await name.click();
    seen.sorted = await tab.locator("section[aria-label^=All] tbody tr td").first().textContent();
    seen.direction = await tab.locator("th[aria-sort]").first().getAttribute("aria-sort");
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const copy = tab.getByRole("button", { name: "Copy this step" });
    if (await copy.count()) {
      await copy.first().click();
      await tab.waitForFunction(() => [...document.querySelectorAll("button")].some((one) => one.textContent === "Copied"));
    }
    await context.close();
    // Without scripts the page says what is missing.
    const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
    await plain.goto(page);
    seen.without_scripts = await plain.locator("noscript").first().textContent();
  } finally {
    await browser.close();
  }
  process.stdout.write(JSON.stringify(seen));
})();
