// What the report does when people touch it: it filters, sorts, opens lines, switches plots and shows tips. Without it, all is shown.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const find = (selector, within = document) => within.querySelector(selector);

const tables = all('table.results');
const bodies = tables.flatMap((table) => [...table.tBodies]);
const filters = find('form.filters');
const tip = find('#tip');

/** What is chosen in the filters; an empty group leaves all of it. */
function chosen(name) {
  return new Set(all(`[name="${name}"]:checked`, filters).map((input) => input.value));
}

function filter() {
  const [models, methods, widths] = ['model', 'method', 'width'].map(chosen);
  const words = filters.elements.recipe.value.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (group, value) => group.size === 0 || group.has(value);
  const shown = new Set();
  for (const body of bodies) {
    const { subject, method, width } = body.dataset;
    const name = nameOf(body).toLowerCase();
    body.hidden = !(has(methods, method) && has(widths, width) && words.every((word) => name.includes(word)));
    if (!body.hidden) shown.add(subject);
  }
  for (const part of all('.model')) {
    part.hidden = !has(models, part.dataset.model);
    const own = bodies.filter((body) => part.contains(body));
    const left = own.filter((body) => !body.hidden).length;
    find('.count', part).textContent = left === own.length ? `${left} recipes` : `${left} of ${own.length} recipes`;
  }
  for (const part of all('tr[data-subject], figure[data-subject]')) part.hidden = !shown.has(part.dataset.subject);
  for (const mark of all('svg.marks a')) mark.classList.toggle('off', !shown.has(mark.href.baseVal.slice(1)));
}

function nameOf(body) {
  return find('th span', body).textContent;
}

/** By a column, or back to how the lines came when a column has been sorted both ways. */
function sort(button) {
  const head = button.closest('th');
  const table = head.closest('table');
  const order = { ascending: 'descending', descending: undefined }[head.ariaSort ?? ''] ?? (head.ariaSort ? undefined : 'ascending');
  for (const other of all('th', table.tHead)) other.removeAttribute('aria-sort');
  if (order) head.setAttribute('aria-sort', order);
  const column = Number(button.dataset.column);
  const sign = order === 'descending' ? -1 : 1;
  const keyOf = (body) => (column === 0 ? nameOf(body) : body.dataset.keys.split(' ')[column - 1]);
  const compare = (a, b) => {
    const [first, second] = [keyOf(a), keyOf(b)];
    // What has no value is last either way.
    if (first === '' || second === '') return Number(first === '') - Number(second === '');
    return sign * (column === 0 ? first.localeCompare(second, 'en', { numeric: true }) : Number(first) - Number(second));
  };
  const own = bodies.filter((body) => table.contains(body));
  table.append(...(order ? own.sort(compare) : own));
}

function open(body, isOpen) {
  find('th button', body).setAttribute('aria-expanded', String(isOpen));
  find('.more', body).hidden = !isOpen;
}

/** One plot of a switch is shown at a time. */
function choosePlot(choice) {
  for (const figure of all('figure', choice.closest('section'))) figure.hidden = figure.dataset.metric !== choice.value;
}

/** A link to a recipe opens its line. */
function follow() {
  const body = bodies.find(({ id }) => `#${id}` === location.hash);
  if (!body) return;
  if (body.hidden) filters.reset();
  const { model } = body.closest('.model').dataset;
  for (const choice of all('[name="model"]', filters)) choice.checked = choice.value === model;
  filter();
  open(body, true);
  body.scrollIntoView({ block: 'center' });
  find('th button', body).focus({ preventScroll: true });
}

async function copy(button) {
  const command = find('pre', button.parentElement);
  try {
    await navigator.clipboard.writeText(command.textContent);
    button.textContent = 'Copied';
    setTimeout(() => (button.textContent = 'Copy'), 1500);
  } catch {
    // Not allowed: then it is selected, to be copied by hand.
    getSelection().selectAllChildren(command);
  }
}

/** What is to be said about what the pointer or the focus is on. */
function tipFor(target) {
  const link = target.closest('svg.marks a');
  // A name and a bar say what their point says.
  const mark = link
    ? find(`a[href="${link.getAttribute('href')}"] [aria-label]`, link.closest('svg'))
    : target.closest('.role-mark [aria-label]');
  if (mark) return mark.getAttribute('aria-label');
  const cell = target.closest('.heat tbody td');
  const row = cell?.parentElement;
  const path = cell && find('thead', cell.closest('table')) && cell.closest('table').dataset.paths.split(' ')[cell.cellIndex - 1];
  const error = path && row.dataset.errors.split(' ')[cell.cellIndex - 1];
  return error ? `${find('th', row).textContent}\n${path}: ${error}` : undefined;
}

/** What the tip is about. */
let pointedAt;

function showTip({ target }) {
  const text = target instanceof Element ? tipFor(target) : undefined;
  tip.hidden = !text;
  pointedAt = target;
  if (!text) return;
  tip.textContent = text;
  placeTip();
}

/** Above what it is about, or below where there is no room. */
function placeTip() {
  if (tip.hidden) return;
  const box = pointedAt.getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const left = box.left + box.width / 2 - width / 2;
  const above = box.top - height - 8;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  tip.style.top = `${above < 8 ? box.bottom + 8 : above}px`;
}

document.addEventListener('click', ({ target }) => {
  const button = target.closest('button');
  if (button?.matches('.copy')) void copy(button);
  else if (button?.dataset.column !== undefined) sort(button);
  else if (button?.ariaExpanded) open(button.closest('tbody'), button.ariaExpanded === 'false');
  // The same link twice does not change the address.
  if (target.closest('a[*|href^="#"]')) setTimeout(follow);
});
document.addEventListener('change', ({ target }) => {
  if (target.name?.startsWith('plot-')) choosePlot(target);
});
filters.addEventListener('input', filter);
filters.addEventListener('reset', () => setTimeout(filter));
filters.addEventListener('submit', (event) => event.preventDefault());
for (const name of ['pointerover', 'focusin']) document.addEventListener(name, showTip);
document.addEventListener('keydown', ({ key }) => {
  if (key === 'Escape') tip.hidden = true;
});
document.addEventListener('scroll', placeTip, { capture: true, passive: true });
addEventListener('hashchange', follow);
// Of a recipe's marks in a chart, the point can be reached by the keyboard.
for (const mark of all('svg.marks a')) if (!find('[aria-label]', mark)) mark.tabIndex = -1;
// The page comes with everything open, for readers without scripts.
for (const choice of all('[name^="plot-"]:checked')) choosePlot(choice);
for (const body of bodies) open(body, false);
filter();
follow();
