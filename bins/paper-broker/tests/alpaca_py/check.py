"""Drives Alpaca's own Python SDK, unchanged, against a paper broker at a fixed price of $100.

Usage: check.py URL KEY SECRET. Ends with status 0 and a line that says how many checks passed.
"""

import json
import sys
import threading
import time
import urllib.request
import uuid
from datetime import date, datetime, timedelta, timezone

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import (
    AccountStatus,
    AssetClass,
    AssetStatus,
    OrderClass,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionSide,
    QueryOrderStatus,
    TimeInForce,
    TradeEvent,
)
from alpaca.trading.requests import (
    ClosePositionRequest,
    CreateWatchlistRequest,
    GetAssetsRequest,
    GetCalendarRequest,
    GetOrderByIdRequest,
    GetOrdersRequest,
    GetPortfolioHistoryRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
    StopLossRequest,
    StopOrderRequest,
    TakeProfitRequest,
    TrailingStopOrderRequest,
    UpdateWatchlistRequest,
)
from alpaca.trading.stream import TradingStream

URL, KEY, SECRET = sys.argv[1:4]
PATIENCE = 20.0
FINAL = {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED, OrderStatus.REPLACED}

client = TradingClient(KEY, SECRET, paper=True, url_override=URL)
checks = 0


def check(condition, message):
    global checks
    if not condition:
        raise AssertionError(message)
    checks += 1


def same(seen, expected, what):
    check(seen == expected, f"{what}: {seen!r} instead of {expected!r}")


def eventually(attempt, what):
    deadline = time.monotonic() + PATIENCE
    while True:
        value = attempt()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited too long: {what}")
        time.sleep(0.02)


def refused(call, status, code, words):
    try:
        call()
    except APIError as error:
        same((error.status_code, error.code), (status, code), words)
        check(words in error.message, f"{error.message!r} does not say {words!r}")
    else:
        raise AssertionError(f"not refused: {words}")


def wait_for(order, *states):
    def attempt():
        seen = client.get_order_by_id(order.id)
        if seen.status in states:
            return seen
        check(seen.status not in FINAL, f"order is {seen.status}, not {states}")
        return None

    return eventually(attempt, f"{order.id} in {states}")


def order(kind, **fields):
    fields.setdefault("symbol", "SPY")
    fields.setdefault("side", OrderSide.BUY)
    fields.setdefault("time_in_force", TimeInForce.DAY)
    return client.submit_order(kind(**fields))


def simulator(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


class Recorder:
    """The SDK's stream in a thread of its own."""

    def __init__(self):
        self.updates = []
        self.stream = TradingStream(KEY, SECRET, paper=True, url_override=URL.replace("http", "ws", 1) + "/stream")
        self.stream.subscribe_trade_updates(self.on_update)
        self.thread = threading.Thread(target=self.stream.run, daemon=True)
        self.thread.start()

    async def on_update(self, update):
        self.updates.append(update)

    def of(self, order_id):
        return [update for update in list(self.updates) if update.order.id == order_id]

    def start(self):
        """The SDK does not say when it listens: order until something comes."""

        def attempt():
            probe = order(LimitOrderRequest, qty=1, limit_price=1)
            client.cancel_order_by_id(probe.id)
            time.sleep(0.2)
            return self.updates

        eventually(attempt, "the stream listens")

    def stop(self):
        self.stream.stop()
        self.thread.join(PATIENCE)


def account_and_reference():
    account = client.get_account()
    same(account.status, AccountStatus.ACTIVE, "account status")
    same((account.cash, account.equity, account.multiplier), ("100000", "100000", "2"), "account money")
    settings = client.get_account_configurations()
    settings.no_shorting = True
    same(client.set_account_configurations(settings).no_shorting, True, "settings")
    refused(lambda: order(MarketOrderRequest, qty=1, side=OrderSide.SELL), 403, 40310000, "account is not allowed to short")
    settings.no_shorting = False
    same(client.set_account_configurations(settings).no_shorting, False, "settings")

    asset = client.get_asset("SPY")
    check(asset.tradable and asset.asset_class == AssetClass.US_EQUITY, "SPY trades")
    same(client.get_asset(str(asset.id)).symbol, "SPY", "asset by id")
    same(client.get_asset("BTC/USD").asset_class, AssetClass.CRYPTO, "a slash in the path")
    filters = GetAssetsRequest(status=AssetStatus.ACTIVE, asset_class=AssetClass.US_EQUITY)
    check(isinstance(client.get_all_assets(filters), list), "list of assets")
    refused(lambda: client.get_asset("nothing"), 404, 40410000, "asset not found for nothing")

    clock = client.get_clock()
    check(clock.is_open and clock.next_close > clock.timestamp, "the market is open")
    days = client.get_calendar(GetCalendarRequest(start=date(2026, 11, 23), end=date(2026, 11, 30)))
    same([day.date.day for day in days], [23, 24, 25, 27, 30], "no trading on Thanksgiving")
    same(days[3].close.hour, 13, "and half a day after it")


def order_types():
    limit = order(LimitOrderRequest, qty=2, limit_price=50.25)
    same((limit.order_type, limit.limit_price, limit.filled_qty), (OrderType.LIMIT, "50.25", "0"), "limit order")
    check(limit.status in (OrderStatus.PENDING_NEW, OrderStatus.ACCEPTED, OrderStatus.NEW), limit.status)
    wait_for(limit, OrderStatus.NEW)
    market = wait_for(order(MarketOrderRequest, qty=20), OrderStatus.FILLED)
    same((market.filled_qty, market.filled_avg_price), ("20", "100"), "market order")
    notional = wait_for(order(MarketOrderRequest, notional=250.5), OrderStatus.FILLED)
    same((notional.qty, notional.notional, notional.filled_qty), (None, "250.5", "2.505"), "notional order")
    fraction = wait_for(order(MarketOrderRequest, qty=0.495), OrderStatus.FILLED)
    same(fraction.filled_qty, "0.495", "a fraction, sent as a number")
    sell = lambda: order(MarketOrderRequest, qty=1, side=OrderSide.SELL)
    refused(sell, 403, 40310000, "potential wash trade detected")
    client.cancel_order_by_id(limit.id)
    wait_for(limit, OrderStatus.CANCELED)
    stop = order(StopOrderRequest, qty=1, side=OrderSide.SELL, stop_price=80.5, time_in_force=TimeInForce.GTC)
    same((wait_for(stop, OrderStatus.NEW).stop_price, stop.type), ("80.5", OrderType.STOP), "stop order")
    both = order(StopLimitOrderRequest, qty=1, side=OrderSide.SELL, stop_price=80, limit_price=79, time_in_force=TimeInForce.GTC)
    same((both.stop_price, both.limit_price), ("80", "79"), "stop limit order")
    trail = order(TrailingStopOrderRequest, qty=1, side=OrderSide.SELL, trail_percent=5, time_in_force=TimeInForce.GTC)
    trail = wait_for(trail, OrderStatus.NEW)
    same((trail.hwm, trail.stop_price, trail.trail_percent), ("100", "95", "5"), "trailing stop order")
    coin = order(MarketOrderRequest, symbol="BTC/USD", qty=0.0503, time_in_force=TimeInForce.GTC)
    same(wait_for(coin, OrderStatus.FILLED).asset_class, AssetClass.CRYPTO, "crypto order")
    same(client.get_open_position("BTC/USD").qty, "0.0503", "position with a slash in the path")
    fok = order(LimitOrderRequest, symbol="GOOG", qty=1, limit_price=50, time_in_force=TimeInForce.FOK)
    wait_for(fok, OrderStatus.CANCELED)
    client.cancel_orders()
    eventually(lambda: not client.get_orders(), "all canceled")


def order_classes():
    bracket = order(
        LimitOrderRequest,
        symbol="AAPL",
        qty=3,
        limit_price=99,
        time_in_force=TimeInForce.GTC,
        order_class=OrderClass.BRACKET,
        take_profit=TakeProfitRequest(limit_price=120),
        stop_loss=StopLossRequest(stop_price=90, limit_price=89.5),
    )
    nested = client.get_order_by_id(bracket.id, GetOrderByIdRequest(nested=True))
    same(len(nested.legs), 2, "bracket legs")
    check(all(leg.status == OrderStatus.HELD for leg in nested.legs), "the legs wait")
    listed = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, nested=True, symbols=["AAPL"]))
    same([row.id for row in listed], [bracket.id], "legs are inside their parent")
    client.cancel_order_by_id(bracket.id)
    wait_for(bracket, OrderStatus.CANCELED)
    for leg in nested.legs:
        wait_for(leg, OrderStatus.CANCELED)

    filled = order(
        MarketOrderRequest,
        symbol="AAPL",
        qty=3,
        order_class=OrderClass.BRACKET,
        take_profit=TakeProfitRequest(limit_price=120),
        stop_loss=StopLossRequest(stop_price=90),
    )
    wait_for(filled, OrderStatus.FILLED)
    legs = client.get_order_by_id(filled.id, GetOrderByIdRequest(nested=True)).legs
    eventually(lambda: any(client.get_order_by_id(leg.id).status == OrderStatus.NEW for leg in legs), "a leg is activated")
    refused(lambda: client.close_position("AAPL"), 403, 40310000, "insufficient qty available")
    client.cancel_orders()
    eventually(lambda: not client.get_orders(GetOrdersRequest(symbols=["AAPL"])), "group canceled")

    oco = order(
        LimitOrderRequest,
        symbol="AAPL",
        qty=3,
        side=OrderSide.SELL,
        time_in_force=TimeInForce.GTC,
        order_class=OrderClass.OCO,
        take_profit=TakeProfitRequest(limit_price=130),
        stop_loss=StopLossRequest(stop_price=90),
    )
    same((oco.limit_price, oco.order_class), ("130", OrderClass.OCO), "the take-profit is the order's limit")
    client.cancel_order_by_id(oco.id)
    wait_for(oco, OrderStatus.CANCELED)
    oto = order(
        LimitOrderRequest,
        symbol="AAPL",
        qty=1,
        limit_price=50,
        order_class=OrderClass.OTO,
        stop_loss=StopLossRequest(stop_price=45),
    )
    same(oto.order_class, OrderClass.OTO, "oto")
    client.cancel_order_by_id(oto.id)
    wait_for(oto, OrderStatus.CANCELED)


def ids_lists_and_replacing():
    mine = "check-" + uuid.uuid4().hex
    first = order(LimitOrderRequest, symbol="IBM", qty=5, limit_price=50, client_order_id=mine)
    same(client.get_order_by_client_id(mine).id, first.id, "by client id")
    again = lambda: order(LimitOrderRequest, symbol="IBM", qty=5, limit_price=50, client_order_id=mine)
    refused(again, 422, 40010001, "client_order_id must be unique")
    refused(lambda: client.get_order_by_client_id("never-used"), 404, 40410000, "order not found")
    refused(lambda: client.get_order_by_id(uuid.uuid4()), 404, 40410000, "order not found")
    refused(lambda: order(LimitOrderRequest, qty=1, limit_price=50.123), 422, 42210000, "sub-penny")
    refused(lambda: order(MarketOrderRequest, qty=1_000_000), 403, 40310000, "insufficient buying power")

    wait_for(first, OrderStatus.NEW)
    second = client.replace_order_by_id(first.id, ReplaceOrderRequest(qty=4, limit_price=51.5))
    same((second.replaces, second.qty, second.limit_price), (first.id, "4", "51.5"), "replacement")
    same(wait_for(first, OrderStatus.REPLACED).replaced_by, second.id, "replaced order")
    wait_for(second, OrderStatus.NEW)

    since = first.submitted_at - timedelta(microseconds=1)
    wanted = GetOrdersRequest(status=QueryOrderStatus.ALL, after=since, direction="asc", symbols=["IBM"])
    same([row.id for row in client.get_orders(wanted)], [first.id, second.id], "list from a time on")
    wanted = GetOrdersRequest(status=QueryOrderStatus.ALL, until=first.submitted_at, symbols=["IBM"])
    same(client.get_orders(wanted), [], "list up to a time excludes it")
    wanted = GetOrdersRequest(status=QueryOrderStatus.OPEN, side=OrderSide.BUY, limit=1)
    same([row.id for row in client.get_orders(wanted)], [second.id], "open buys, newest first")

    pages, after = [], first.submitted_at - timedelta(days=3650)
    while page := client.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, after=after, direction="asc", limit=3)):
        pages += [row.id for row in page]
        after = page[-1].submitted_at
    whole = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, direction="asc", limit=500))
    same(pages, [row.id for row in whole], "pages join up")

    client.cancel_order_by_id(second.id)
    wait_for(second, OrderStatus.CANCELED)
    refused(lambda: client.cancel_order_by_id(second.id), 422, 42210000, 'order is already in "canceled" state')
    for symbol in ("IBM", "MSFT"):
        order(LimitOrderRequest, symbol=symbol, qty=1, limit_price=50)
    rows = client.cancel_orders()
    same(sorted(row.status for row in rows), [200, 200], "cancel all")
    eventually(lambda: not client.cancel_orders(), "nothing left to cancel")


def positions():
    held = {row.symbol: row for row in client.get_all_positions()}
    same((held["SPY"].qty, held["AAPL"].qty), ("23", "3"), "positions")
    same((held["SPY"].side, held["SPY"].avg_entry_price), (PositionSide.LONG, "100"), "side and entry")
    sold = client.close_position("SPY", ClosePositionRequest(qty="3"))
    same((sold.side, sold.qty, sold.symbol), (OrderSide.SELL, "3", "SPY"), "close a part")
    wait_for(sold, OrderStatus.FILLED)
    half = client.close_position("SPY", ClosePositionRequest(percentage="50"))
    same(half.qty, "10", "close half")
    wait_for(half, OrderStatus.FILLED)
    short = wait_for(order(MarketOrderRequest, symbol="MSFT", qty=2, side=OrderSide.SELL), OrderStatus.FILLED)
    same(client.get_open_position("MSFT").side, PositionSide.SHORT, f"short by {short.id}")
    order(LimitOrderRequest, symbol="IBM", qty=1, limit_price=50)
    rows = client.close_all_positions(cancel_orders=True)
    same({row.symbol for row in rows}, {"SPY", "AAPL", "MSFT", "BTC/USD"}, "close all")
    check(all(row.status == 200 for row in rows), rows)
    eventually(lambda: not client.get_all_positions(), "all closed")
    same(client.get_orders(), [], "and all canceled")
    refused(lambda: client.get_open_position("SPY"), 404, 40410000, "position does not exist")
    account = client.get_account()
    same((account.cash, account.equity), ("100000", "100000"), "nothing won or lost at a fixed price")


def books():
    rows, token = [], None
    while True:
        query = {"direction": "asc", "page_size": 4}
        if token:
            query["page_token"] = token
        page = client.get("/account/activities/FILL", query)
        rows += page
        if len(page) < 4:
            break
        token = page[-1]["id"]
    check(len(rows) == len({row["id"] for row in rows}), "no fill twice")
    orders = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, limit=500))
    filled = {str(row.id): row.filled_qty for row in orders if float(row.filled_qty) > 0}
    for row in rows:
        check(row["order_id"] in filled, "a fill of a known order")
    last = {row["order_id"]: row["cum_qty"] for row in rows}
    same(last, filled, "the fills' totals are the orders'")
    same([row["net_amount"] for row in client.get("/account/activities", {"activity_types": "CSD"})], ["100000"], "deposit")
    history = client.get_portfolio_history(GetPortfolioHistoryRequest(period="1D", timeframe="1Min"))
    check(len(history.timestamp) == len(history.equity) > 0, "portfolio history")
    same(history.base_value, 100000.0, "base value")


def watchlists():
    made = client.create_watchlist(CreateWatchlistRequest(name="mine", symbols=["AAPL", "IBM"]))
    same([asset.symbol for asset in made.assets], ["AAPL", "IBM"], "watchlist")
    same(len(client.add_asset_to_watchlist_by_id(made.id, "MSFT").assets), 3, "one more")
    same(len(client.remove_asset_from_watchlist_by_id(made.id, "IBM").assets), 2, "one less")
    changed = client.update_watchlist_by_id(made.id, UpdateWatchlistRequest(name="ours"))
    same(changed.name, "ours", "another name")
    same([row.id for row in client.get_watchlists()], [made.id], "watchlists")
    same(client.get_watchlist_by_id(made.id).name, "ours", "one watchlist")
    client.delete_watchlist_by_id(made.id)
    same(client.get_watchlists(), [], "no watchlist")


def stream():
    recorder = Recorder()
    recorder.start()
    bought = order(MarketOrderRequest, qty=2)
    updates = eventually(lambda: len(recorder.of(bought.id)) >= 3 and recorder.of(bought.id), "events of an order")
    same([update.event for update in updates], [TradeEvent.PENDING_NEW, TradeEvent.NEW, TradeEvent.FILL], "events")
    fill = updates[-1]
    same((fill.qty, fill.price, fill.position_qty), (2.0, 100.0, 2.0), "the fill")
    same((fill.order.status, fill.order.filled_qty), (OrderStatus.FILLED, "2"), "the order in it")
    check(len({update.execution_id for update in updates}) == 3, "execution ids differ")
    resting = order(LimitOrderRequest, qty=1, limit_price=50)
    wait_for(resting, OrderStatus.NEW)
    client.cancel_order_by_id(resting.id)
    seen = lambda: any(update.event == TradeEvent.CANCELED for update in recorder.of(resting.id))
    eventually(seen, "the cancel on the stream")
    recorder.stop()
    same(recorder.thread.is_alive(), False, "the stream ends")


def expiry():
    day = order(LimitOrderRequest, qty=1, limit_price=50)
    kept = order(LimitOrderRequest, qty=1, limit_price=50, time_in_force=TimeInForce.GTC)
    simulator("PUT", "/_sim/clock", {"session": "after"})
    wait_for(day, OrderStatus.EXPIRED)
    check(client.get_clock().is_open is False, "the market is closed")
    same(client.get_order_by_id(kept.id).status, OrderStatus.NEW, "gtc lives on")
    simulator("PUT", "/_sim/clock", {"session": "regular"})
    check(client.get_clock().is_open, "the market is open again")
    client.cancel_orders()


def main():
    start = datetime.now(timezone.utc)
    for part in (account_and_reference, order_types, order_classes, ids_lists_and_replacing, positions, books, watchlists, stream, expiry):
        part()
    wrong = TradingClient(KEY, "wrong", paper=True, url_override=URL)
    refused(wrong.get_account, 401, 40110000, "request is not authorized")
    took = (datetime.now(timezone.utc) - start).total_seconds()
    print(f"ok: {checks} checks in {took:.1f} s")


if __name__ == "__main__":
    main()
