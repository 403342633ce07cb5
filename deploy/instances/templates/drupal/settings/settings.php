<?php

// Made once by provision. From then on it is yours.
$databases['default']['default'] = [
  'driver' => 'mysql',
  'host' => 'database',
  'database' => 'drupal',
  'username' => 'drupal',
  'password' => getenv('DATABASE_PASSWORD'),
];
$settings['hash_salt'] = getenv('HASH_SALT');
$settings['config_sync_directory'] = 'sites/default/files/config';
